"""The prompt grammar of AUTOMATIC1111's web UI: what is stressed, and by how much.

(x)        1.1 times       [x]      1.1 times less
(x:1.3)    1.3 times       ((x))    1.1 squared times
\\( \\)     brackets        BREAK    goes on in a new chunk of 75 tokens
"""

from __future__ import annotations

import re
from typing import NamedTuple

STEP = 1.1
TOKEN = re.compile(r"\\[()\[\]\\]|\\|\(|\[|:\s*([+-]?[.\d]+)\s*\)|\)|\]|[^\\()\[\]:]+|:")
BREAK = re.compile(r"\s*\bBREAK\b\s*", re.DOTALL)


class Span(NamedTuple):
    """A piece of a prompt and its weight; `breaks` tells that a new chunk begins before it."""

    text: str
    weight: float
    breaks: bool = False


def parse(prompt: str) -> list[Span]:
    """The pieces of a prompt in order, neighbours of one weight joined. Any text is a prompt: brackets may stay open."""
    pieces: list[tuple[str, float, bool]] = []
    opened: dict[str, list[int]] = {"(": [], "[": []}  # where the open brackets of each kind begin

    def stress(start: int, weight: float) -> None:
        pieces[start:] = [(text, own * weight, breaks) for text, own, breaks in pieces[start:]]

    for match in TOKEN.finditer(prompt):
        token, number = match[0], match[1]
        if token in opened:
            opened[token].append(len(pieces))
        elif number is not None and opened["("] and _is_number(number):
            stress(opened["("].pop(), float(number))
        elif token == ")" and opened["("]:
            stress(opened["("].pop(), STEP)
        elif token == "]" and opened["["]:
            stress(opened["["].pop(), 1 / STEP)
        else:
            plain = token[1:] if token.startswith("\\") and len(token) > 1 else token
            for place, part in enumerate(BREAK.split(plain)):
                pieces.append((part, 1.0, place > 0))
    for kind, weight in (("(", STEP), ("[", 1 / STEP)):
        for start in opened[kind]:
            stress(start, weight)
    return _joined(pieces)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _joined(pieces: list[tuple[str, float, bool]]) -> list[Span]:
    found: list[Span] = []
    for text, weight, breaks in pieces:
        if found and not breaks and found[-1].weight == weight:
            found[-1] = found[-1]._replace(text=found[-1].text + text)
        elif text or breaks:
            found.append(Span(text, weight, breaks))
    return found or [Span("", 1.0)]
