"""Specs refuse unknown keys and wrong values, and say all of them at once."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from undiffuse.core.errors import SpecError
from undiffuse.core.spec import Spec, pick


class Inner(Spec):
    rate: float = 1.0


class Outer(Spec):
    steps: int
    inner: Inner = Inner()


def test_every_wrong_key_is_listed_with_its_place() -> None:
    with pytest.raises(SpecError) as caught:
        Outer.parse({"inner": {"rate": "fast", "speed": 3}}, where="recipe.toml")

    message = str(caught.value)
    assert message.startswith("recipe.toml: ")
    assert "steps: missing" in message
    assert "inner.rate = 'fast': " in message
    assert "inner.speed: unknown key" in message


def test_long_values_are_cut_short() -> None:
    with pytest.raises(SpecError) as caught:
        Outer.parse({"steps": "x" * 10_000})

    assert len(str(caught.value)) < 300


def test_specs_cannot_be_changed() -> None:
    spec = Outer(steps=3)

    with pytest.raises(ValidationError, match="frozen"):
        spec.steps = 4  # type: ignore[misc]


def test_names_are_looked_up_in_literal_tables() -> None:
    assert pick({"a": 1}, "a", "letter") == 1
    with pytest.raises(SpecError, match="unknown letter 'c'; there are: a, b"):
        pick({"b": 2, "a": 1}, "c", "letter")
