"""Every error class has its place in the drawn tree and an exit code."""

from __future__ import annotations

import inspect
import re

import pytest

from undiffuse.core import errors
from undiffuse.core.errors import UndiffuseError, explain

CLASSES = [value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, UndiffuseError)]


@pytest.mark.parametrize("error", CLASSES, ids=lambda error: error.__name__)
def test_every_class_is_drawn_in_the_tree(error: type[UndiffuseError]) -> None:
    assert errors.__doc__ is not None
    assert re.search(rf"\b{error.__name__}\b", errors.__doc__)


def test_the_tree_tells_the_exit_codes() -> None:
    assert errors.__doc__ is not None
    drawn = dict(re.findall(r"(\w+) +[a-z].*exit (\d+)", errors.__doc__))

    assert {name: getattr(errors, name).exit_code for name in drawn} == {name: int(code) for name, code in drawn.items()}


def test_a_message_says_what_was_given_what_is_allowed_and_the_remedy() -> None:
    assert explain("steps = 0.", "1 to 1000", "leave it out.") == "steps = 0; 1 to 1000; leave it out."
