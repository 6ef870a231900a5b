"""ComfyUI's documented examples, what holds for any text, and how stretches fill chunks."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from undiffuse.conditioners.prompts.chunks import ROOM
from undiffuse.conditioners.prompts.comfyui import fill, parse
from undiffuse.conditioners.prompts.grammar import Span


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("(foo)", [("foo", 1.1)]),
        ("(foo)(bar)", [("foo", 1.1), ("bar", 1.1)]),
        ("(foo:2.0)", [("foo", 2.0)]),
        ("((foo))", [("foo", 1.21)]),
        ("((foo):1.1)", [("foo", 1.21)]),
        ("((foo:1.1))", [("foo", 1.1)]),
        ("(foo:0.0)", [("foo", 0.0)]),
        ("((foo:1.0):0.0)", [("foo", 1.0)]),
        (
            "foo ((((lol (cat:666) attack:100)))) baz",
            [("foo ", 1.0), ("lol ", 100.0), ("cat", 666.0), (" attack", 100.0), (" baz", 1.0)],
        ),
        (
            "foo ((((lol (cat:666) attack):100))) baz",
            [("foo ", 1.0), ("lol ", 110.0), ("cat", 666.0), (" attack", 110.0), (" baz", 1.0)],
        ),
        ("[less] a:1.2", [("[less] a:1.2", 1.0)]),
        (r"\(foo\)(bar)", [("(foo)", 1.0), ("bar", 1.1)]),
        (r"(a \(b\):1.3)", [("a (b)", 1.3)]),
        ("(a:b)", [("a:b", 1.1)]),
        ("(a:b:2)", [("a:b", 2.0)]),
        ("(a:nan)", [("a:nan", 1.1)]),
        ("(:2)", [(":2", 1.1)]),
        ("(open", [("(open", 1.0)]),
        ("shut) (x)", [("shut) (x)", 1.0)]),
        ("()", [("", 1.0)]),
        ("", [("", 1.0)]),
    ],
)
def test_what_is_stressed_and_by_how_much(prompt: str, expected: list[tuple[str, float]]) -> None:
    assert [(span.text, pytest.approx(span.weight)) for span in parse(prompt)] == expected


@given(st.text(alphabet="ab ():[]\\1.5,\n", max_size=40))
def test_any_text_is_a_prompt(prompt: str) -> None:
    spans = parse(prompt)
    assert spans and not any(span.breaks for span in spans)
    assert re.sub(r"[^ab,]", "", "".join(span.text for span in spans)) == re.sub(r"[^ab,]", "", prompt)


def test_a_thousand_brackets_are_counted() -> None:
    assert parse("(" * 1000 + "x:2" + ")" * 1000) == [Span("x", 2.0)]


def letters(text: str) -> list[tuple[int, ...]]:
    """A token a letter; digits make a learned word of so many."""
    return [(ord(letter),) * (int(letter) if letter.isdigit() else 1) for letter in text]


@pytest.mark.parametrize(
    ("texts", "lengths"),
    [
        (["a" * 70, "b" * 7], [70, 7]),  # fewer than eight go over whole
        (["a" * 70, "b" * 8], [75, 3]),  # eight are cut
        (["a" * 160], [75, 75, 10]),
        (["a" * 75, "b" * 8], [75, 8]),
        (["a" * 72, "b4c"], [73, 5]),
        (["a" * 72, "9"], [75, 6]),
        ([""], [0]),
    ],
)
def test_stretches_fill_chunks(texts: list[str], lengths: list[int]) -> None:
    chunks = fill([Span(text, 1.0 + place) for place, text in enumerate(texts)], letters)
    assert [len(chunk.ids) for chunk in chunks] == lengths
    flat = [(token, weight) for chunk in chunks for token, weight in zip(chunk.ids, chunk.weights, strict=True)]
    assert flat == [(t, 1.0 + place) for place, text in enumerate(texts) for unit in letters(text) for t in unit]
    assert max(lengths) <= ROOM
