"""A1111's documented examples of prompts that change on the way, and what holds for any text."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from undiffuse.conditioners.prompts.schedule import schedule, text_at

ANY = st.text(alphabet="ab ()[]:|\\.510\n", max_size=40)


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("test", [(10, "test")]),
        ("a [b:3]", [(3, "a "), (10, "a b")]),
        ("a [b: 3]", [(3, "a "), (10, "a b")]),
        ("a [[[b]]:2]", [(2, "a "), (10, "a [[b]]")]),
        ("[(a:2):3]", [(3, ""), (10, "(a:2)")]),
        ("a [b : c : 1] d", [(1, "a b  d"), (10, "a  c  d")]),
        ("a[b:[c:d:2]:1]e", [(1, "abe"), (2, "ace"), (10, "ade")]),
        ("a [unbalanced", [(10, "a [unbalanced")]),
        ("a [b:.5] c", [(5, "a  c"), (10, "a b c")]),
        ("a [{b|d{:.5] c", [(10, "a [{b|d{:.5] c")]),
        ("((a][:b:c [d:3]", [(3, "((a][:b:c "), (10, "((a][:b:c d")]),
        ("[a|(b:1.1)]", [(k, ("a", "(b:1.1)")[(k - 1) % 2]) for k in range(1, 11)]),
        ("[fe|]male", [(k, ("female", "male")[(k - 1) % 2]) for k in range(1, 11)]),
        ("[fe|||]male", [(k, ("female", "male", "male", "male")[(k - 1) % 4]) for k in range(1, 11)]),
    ],
)
def test_the_documented_examples(prompt: str, expected: list[tuple[int, str]]) -> None:
    assert schedule(prompt, 10) == tuple(expected)


def test_the_example_of_the_landscape() -> None:
    prompt = (
        "fantasy landscape with a [mountain:lake:0.25] and [an oak:a christmas tree:0.75][ in foreground::0.6]"
        "[: in background:0.25] [shoddy:masterful:0.5]"
    )
    assert schedule(prompt, 100) == (
        (25, "fantasy landscape with a mountain and an oak in foreground shoddy"),
        (50, "fantasy landscape with a lake and an oak in foreground in background shoddy"),
        (60, "fantasy landscape with a lake and an oak in foreground in background masterful"),
        (75, "fantasy landscape with a lake and an oak in background masterful"),
        (100, "fantasy landscape with a lake and a christmas tree in background masterful"),
    )


@pytest.mark.parametrize(
    ("prompt", "steps", "expected"),
    [
        ("[a::0.3]b", 20, [(6, "ab"), (20, "b")]),
        ("[:b:0.3]", 20, [(6, ""), (20, "b")]),
        ("[a:b:10]", 20, [(10, "a"), (20, "b")]),
        ("[a:b:30]", 20, [(20, "a")]),
        ("[a:b:1.0]", 20, [(20, "a")]),  # with a point: a share
        ("[a:b:1]", 20, [(1, "a"), (20, "b")]),
        ("[a:b:0]", 20, [(20, "b")]),
        ("[a:b:-0.5]", 20, [(20, "b")]),
        ("[a:b:1e999]", 20, [(20, "a")]),
        ("[a:b:0.5]", 1, [(1, "b")]),
        ("[[a|b]:c:2]", 4, [(1, "a"), (2, "b"), (3, "c"), (4, "c")]),
        ("[a|[b:c:2]|d]", 5, [(1, "a"), (2, "b"), (3, "d"), (4, "a"), (5, "c")]),
        ("[(a [b:1]:1.2):c:2]", 3, [(1, "(a :1.2)"), (2, "(a b:1.2)"), (3, "c")]),
        (r"a \[b:c:2\]", 4, [(4, r"a \[b:c:2\]")]),
        ("a|b [c:d:2]", 4, [(4, "a|b [c:d:2]")]),
        ("[c:d:2] \\", 4, [(4, "[c:d:2] \\")]),
        ("[a:b:c:2]", 4, [(4, "[a:b:c:2]")]),
        ("[a: [b:c:2]", 4, [(2, "[a: b"), (4, "[a: c")]),
    ],
)
def test_numbers_nesting_and_what_is_left_alone(prompt: str, steps: int, expected: list[tuple[int, str]]) -> None:
    assert schedule(prompt, steps) == tuple(expected)


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("[a:b:0.5]", [(10, "b")]),  # it changed in the first pass
        ("[a:b:1.5]", [(5, "a"), (10, "b")]),
        ("[a:b:2.0]", [(10, "a")]),
        ("[a:b:20]", [(10, "b")]),
        ("[a:b:23]", [(3, "a"), (10, "b")]),
        ("[a::23]", [(3, "a"), (10, "")]),
        ("a fox", [(10, "a fox")]),
    ],
)
def test_a_second_pass_counts_on(prompt: str, expected: list[tuple[int, str]]) -> None:
    """A1111 1.6: 10 steps after 20."""
    assert schedule(prompt, 10, before=20) == tuple(expected)


@given(ANY, st.integers(1, 30))
def test_entries_rise_and_end_at_the_last_step(prompt: str, steps: int) -> None:
    ends = [end for end, _ in schedule(prompt, steps)]
    assert ends == sorted(set(ends)) and ends[0] >= 1 and ends[-1] == steps


@given(st.text(max_size=60).filter(lambda text: not re.search(r"[\[\]]", text)), st.integers(1, 30))
def test_a_prompt_without_square_brackets_has_one_entry(prompt: str, steps: int) -> None:
    assert schedule(prompt, steps) == ((steps, prompt),)


@given(ANY, ANY, st.integers(1, 12), st.integers(1, 20))
def test_an_edit_of_balanced_texts_is_the_texts_themselves(before: str, after: str, when: int, steps: int) -> None:
    before, after = (re.sub(r"[^ab 510.]", "", text) for text in (before, after))
    texts = schedule(f"[{before}:{after}:{when}]", steps)
    drawn = [next(text for end, text in texts if step <= end) for step in range(1, steps + 1)]
    assert drawn == [before if step <= when else after for step in range(1, steps + 1)]


def test_thousands_of_brackets_are_no_trouble() -> None:
    assert schedule("[" * 5000 + "a" + "]" * 5000, 3) == ((3, "[" * 5000 + "a" + "]" * 5000),)
    assert schedule("[" * 3000 + "a:1]" + ":1]" * 2999, 2) == ((1, ""), (2, "a"))
    assert schedule("(" * 5000, 3) == ((3, "(" * 5000),)


def test_the_web_ui_looks_texts_up_one_step_late() -> None:
    """Its issue 7279: with [a:b:5] the seventh step is the first of b."""
    assert "".join(text_at(schedule("[a:b:5]", 10), step) for step in range(10)) == "aaaaaabbbb"
    assert "".join(text_at(schedule("[a|b]", 6), step) for step in range(6)) == "aababa"
    assert text_at(schedule("[a:b:2]", 4), 9) == "b"  # a grid may have more steps than were asked for
