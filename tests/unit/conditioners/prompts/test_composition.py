"""Prompts between ANDs, each with its weight."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from undiffuse.conditioners.prompts.composition import Part, compose


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a fox AND a river :1.2", [("a fox", 1.0), (" a river", 1.2)]),
        ("a cat :1.2 AND a dog AND a penguin :2.2", [("a cat", 1.2), (" a dog", 1.0), (" a penguin", 2.2)]),
        ("a AND b:-0.5", [("a", 1.0), (" b", -0.5)]),
        ("a : 2. AND b:.5\n", [("a", 2.0), (" b", 0.5)]),
        ("(a:1.2) AND [b:c:0.5]", [("(a:1.2)", 1.0), (" [b:c:0.5]", 1.0)]),
        ("AND", [("", 1.0), ("", 1.0)]),
        ("a BAND and an ANDROID", [("a BAND and an ANDROID", 1.0)]),
        ("a clock at 12:30", [("a clock at 12:30", 1.0)]),
        ("", [("", 1.0)]),
    ],
)
def test_prompts_and_weights(prompt: str, expected: list[tuple[str, float]]) -> None:
    assert compose(prompt) == tuple(Part(*part) for part in expected)


@given(st.lists(st.tuples(st.text(alphabet="ab ,(", max_size=8), st.integers(-20, 20)), min_size=2, max_size=4))
def test_what_is_written_is_read(parts: list[tuple[str, int]]) -> None:
    prompt = " AND ".join(f"{text} :{weight / 10:.1f}" for text, weight in parts)
    found = compose(prompt)
    assert [part.text.strip() for part in found] == [text.strip() for text, _ in parts]
    assert [part.weight for part in found] == [weight / 10 for _, weight in parts]
