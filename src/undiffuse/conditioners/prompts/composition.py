"""Several prompts at once, as AUTOMATIC1111's web UI writes them: `a fox AND a river :1.2` (Liu et al. 2022)."""

from __future__ import annotations

import re
from typing import NamedTuple

AND = re.compile(r"\bAND\b")
WEIGHT = re.compile(r"\s*:\s*([-+]?(?:\d+\.?|\d*\.\d+))\s*$")


class Part(NamedTuple):
    """One of several prompts, and how much it counts."""

    text: str
    weight: float = 1.0


def compose(prompt: str) -> tuple[Part, ...]:
    """The prompts between the ANDs, in order; without an AND the prompt as it is, a number at its end too.

    A1111 takes a number at the end of any prompt for a weight, which makes thirty times the guidance of "a clock at 12:30".
    """
    texts = AND.split(prompt)
    return tuple(_part(text) for text in texts) if len(texts) > 1 else (Part(prompt),)


def _part(text: str) -> Part:
    found = WEIGHT.search(text)
    return Part(text[: found.start()], float(found[1])) if found else Part(text.rstrip())
