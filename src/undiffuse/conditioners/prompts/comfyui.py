"""The prompt grammar of ComfyUI: what is stressed, by how much, and how its tokens fill chunks.

(x)        1.1 times                            ((x))      1.1 squared times
(x:1.3)    1.3, whatever the brackets around    \\( \\)      brackets

Square brackets, BREAK and AND are words like any other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby

from undiffuse.conditioners.prompts.chunks import ROOM, Chunk, Tokenize
from undiffuse.conditioners.prompts.grammar import STEP, Span

WHOLE = 8  # a stretch of fewer tokens is never cut
ESCAPED = {"\\(": "\x01", "\\)": "\x02"}  # so that they are not taken for brackets while those are counted


def parse(prompt: str) -> list[Span]:
    """The pieces of a prompt in order. Any text is a prompt: brackets without a partner are text."""
    for escape, mark in ESCAPED.items():
        prompt = prompt.replace(escape, mark)
    found: list[Span] = []
    waiting = [(prompt, 1.0, False)]  # the next one last; a text, its weight, and whether it holds no groups any more
    while waiting:
        text, weight, plain = waiting.pop()
        if plain:
            found.append(Span(_shown(text), weight))
            continue
        for piece in reversed(_outermost(text)):
            group = len(piece) > 1 and piece[0] == "(" and piece[-1] == ")"
            waiting.append((*_weighed(piece[1:-1], weight), False) if group else (piece, weight, True))
    return found or [Span("", 1.0)]


def fill(spans: Sequence[Span], tokenize: Tokenize) -> list[Chunk]:
    """The chunks of a prompt, at least one.

    What shares a weight and has no learned word in it is one stretch. A stretch of less than eight tokens that does not
    fit any more goes into the next chunk, a longer one is cut where the chunk is full.
    """
    chunks: list[Chunk] = []
    ids: list[int] = []
    weights: list[float] = []

    def close() -> None:
        nonlocal ids, weights
        chunks.append(Chunk(tuple(ids), tuple(weights)))
        ids, weights = [], []

    for span in spans:
        for stretch in _stretches(tokenize(span.text)):
            left = stretch
            while left:
                room = ROOM - len(ids)
                if len(left) > room:
                    taken = left[:room] if len(stretch) >= WHOLE else ()
                    ids, weights = [*ids, *taken], [*weights, *[span.weight] * len(taken)]
                    left = left[len(taken) :]
                    close()
                else:
                    ids, weights = [*ids, *left], [*weights, *[span.weight] * len(left)]
                    left = ()
    close()
    return chunks


def _outermost(text: str) -> list[str]:
    """A text cut at its outermost brackets, which stay on their pieces. After one that closes nothing all is one piece."""
    found, start, depth = [], 0, 0
    for place, letter in enumerate(text):
        if letter == "(":
            if depth == 0:
                found.append(text[start:place])
                start = place
            depth += 1
        elif letter == ")":
            depth -= 1
            if depth == 0:
                found.append(text[start : place + 1])
                start = place + 1
    return [piece for piece in (*found, text[start:]) if piece]


def _weighed(inside: str, weight: float) -> tuple[str, float]:
    """What stands between two brackets without its number, and its weight in surroundings of this weight."""
    text, colon, number = inside.rpartition(":")
    try:
        told = float(number)
    except ValueError:
        told = math.nan
    return (text, told) if colon and text and math.isfinite(told) else (inside, weight * STEP)


def _shown(text: str) -> str:
    for escape, mark in ESCAPED.items():
        text = text.replace(mark, escape[1])
    return text


def _stretches(units: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Neighbouring single tokens together, learned words of several tokens by themselves."""
    found: list[tuple[int, ...]] = []
    for single, run in groupby(units, lambda unit: len(unit) == 1):
        together = list(run)
        found += [tuple(token for (token,) in together)] if single else together
    return found
