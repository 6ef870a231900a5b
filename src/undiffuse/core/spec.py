"""The base of every frozen spec: strict keys, values that cannot change, errors in our own words."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from undiffuse.core.errors import SpecError, explain

T = TypeVar("T")

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80


class Spec(BaseModel):
    """A frozen record read from TOML or JSON; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    @classmethod
    def parse(cls, raw: Mapping[str, Any], where: str = "") -> Self:
        """Build from plain data.

        Args:
            raw: nested dictionaries, as TOML or JSON gives them.
            where: what the data came from, for the message ("recipe.toml").

        Raises:
            SpecError: listing every wrong key with its place, value and what is allowed.
        """
        try:
            return cls.model_validate(raw)
        except ValidationError as error:
            raise SpecError(describe_errors(error, where or cls.__name__)) from None


def describe_errors(error: ValidationError, where: str) -> str:
    """One line that lists every wrong key of a failed validation with its place, value and what is allowed."""
    lines = []
    for item in error.errors(include_url=False):
        place = ".".join(str(part) for part in item["loc"]) or "(whole)"
        if item["type"] == "extra_forbidden":
            lines.append(f"{place}: unknown key")
        elif item["type"] == "missing":
            lines.append(f"{place}: missing")
        else:
            message = item["msg"].removeprefix("Value error, ")
            told = item["type"] == "value_error" and isinstance(item["input"], Mapping)  # a whole table: the message names it
            lines.append(f"{place}: {message}" if told else f"{place} = {_SHORT.repr(item['input'])}: {message}")
    return f"{where}: " + "; ".join(lines)


def pick(table: Mapping[str, T], name: str, what: str) -> T:
    """Look a name up in a literal table.

    Raises:
        SpecError: listing the names there are.
    """
    try:
        return table[name]
    except KeyError:
        raise SpecError(explain(f"unknown {what} {name!r}", f"there are: {', '.join(sorted(table))}")) from None
