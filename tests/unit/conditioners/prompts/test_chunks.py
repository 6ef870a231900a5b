"""Where a long prompt is cut."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from undiffuse.conditioners.prompts.chunks import BACK, ROOM, cut
from undiffuse.conditioners.prompts.grammar import Span

COMMA = 0


def words(text: str) -> list[tuple[int, ...]]:
    """A comma is 0, "L" a learned word of four tokens, any other letter a token."""
    return [(COMMA,) if letter == "," else (7, 8, 9, 10) if letter == "L" else (ord(letter),) for letter in text]


def lengths(text: str) -> list[int]:
    return [len(chunk.ids) for chunk in cut([Span(text, 1.0)], words, COMMA)]


def test_an_empty_prompt_is_one_chunk() -> None:
    (chunk,) = cut([Span("", 1.0)], words, COMMA)
    assert chunk.ids == chunk.weights == ()


def test_a_full_chunk_is_cut_behind_a_comma_that_is_near() -> None:
    assert lengths("a" * 70 + "," + "b" * 10) == [71, 10]
    assert lengths("a" * (ROOM - BACK) + "," + "b" * 30) == [ROOM - BACK + 1, 30]


def test_a_comma_further_back_does_not_count() -> None:
    assert lengths("a" * (ROOM - BACK - 1) + "," + "b" * 30) == [ROOM, 10]
    assert lengths("a" * 80) == [ROOM, 5]


def test_a_comma_that_does_not_fit_stays_with_what_follows() -> None:
    assert lengths("a" * ROOM + "," + "b") == [ROOM, 2]


def test_a_learned_word_is_not_cut() -> None:
    assert lengths("a" * 73 + "Lb") == [73, 5]


def test_break_closes_a_chunk_and_weights_follow_their_tokens() -> None:
    first, second = cut([Span("ab", 1.0), Span("c", 1.5), Span("d", 0.5, breaks=True)], words, COMMA)
    assert (first.weights, second.weights) == ((1.0, 1.0, 1.5), (0.5,))


@given(st.lists(st.tuples(st.text(alphabet="ab,L", max_size=90), st.sampled_from([0.5, 1.0, 2.0]), st.booleans()), max_size=4))
def test_every_token_appears_once_in_order(told: list[tuple[str, float, bool]]) -> None:
    spans = [Span(*one) for one in told]
    chunks = cut(spans, words, COMMA)
    assert all(len(chunk.ids) <= ROOM and len(chunk.ids) == len(chunk.weights) for chunk in chunks)
    expected = [(token, span.weight) for span in spans for unit in words(span.text) for token in unit]
    assert [pair for chunk in chunks for pair in zip(chunk.ids, chunk.weights, strict=True)] == expected
