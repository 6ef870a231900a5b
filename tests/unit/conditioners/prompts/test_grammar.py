"""The grammar's documented examples, and what holds for any text."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from undiffuse.conditioners.prompts.grammar import Span, parse


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("normal text", [("normal text", 1.0)]),
        ("an (important) word", [("an ", 1.0), ("important", 1.1), (" word", 1.0)]),
        ("(unbalanced", [("unbalanced", 1.1)]),
        (r"\(literal\]", [("(literal]", 1.0)]),
        ("(unnecessary)(parens)", [("unnecessaryparens", 1.1)]),
        (
            "a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).",
            [("a ", 1.0), ("house", 1.573), (" ", 1.1), ("on", 1.0), (" a ", 1.1), ("hill", 0.55), (", sun, ", 1.1),
             ("sky", 1.4641), (".", 1.1)],
        ),
        ("[less]", [("less", 1 / 1.1)]),
        ("a:b (c:d)", [("a:b ", 1.0), ("c:d", 1.1)]),
        ("(x:1.2", [("x:1.2", 1.1)]),
        ("x:1.2)", [("x:1.2)", 1.0)]),
        ("(a(b:2)c:0.5)", [("a", 0.5), ("b", 1.0), ("c", 0.5)]),
        ("", [("", 1.0)]),
    ],
)  # fmt: skip
def test_what_is_stressed_and_by_how_much(prompt: str, expected: list[tuple[str, float]]) -> None:
    assert [(span.text, pytest.approx(span.weight)) for span in parse(prompt)] == expected


def test_break_begins_a_new_chunk() -> None:
    assert parse("a fox BREAK (a boat:1.5)BREAK") == [
        Span("a fox", 1.0),
        Span("", 1.0, breaks=True),
        Span("a boat", 1.5),
        Span("", 1.0, breaks=True),
    ]
    assert parse("BREAKFAST") == [Span("BREAKFAST", 1.0)]


@given(st.text(alphabet="ab ():[]\\1.5,BREAK\n", max_size=40))
def test_any_text_is_a_prompt(prompt: str) -> None:
    spans = parse(prompt)
    assert spans and all(isinstance(span.weight, float) for span in spans)
    letters = re.sub(r"[^ab,]", "", prompt)
    assert re.sub(r"[^ab,]", "", "".join(span.text for span in spans)) == letters


@given(st.text(max_size=40).filter(lambda text: not re.search(r"[()\[\]\\]|BREAK", text)))
def test_text_without_brackets_stays_as_it_is(prompt: str) -> None:
    assert parse(prompt) == [Span(prompt, 1.0)]
