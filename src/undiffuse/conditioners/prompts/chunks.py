"""Weighted pieces of a prompt as chunks of tokens that a text encoder takes, as AUTOMATIC1111's web UI cuts them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from undiffuse.conditioners.prompts.grammar import Span

ROOM = 75  # tokens of a chunk between its two marks
BACK = 20  # how far back a comma may lie at which a full chunk is cut

Tokenize = Callable[[str], list[tuple[int, ...]]]
"""A text as units that must not be cut: single tokens, and all the tokens of a learned word."""


class Chunk(NamedTuple):
    """Token ids and their weights, 75 at most, without marks."""

    ids: tuple[int, ...]
    weights: tuple[float, ...]


def cut(spans: Sequence[Span], tokenize: Tokenize, comma: int) -> list[Chunk]:
    """The chunks of a prompt, at least one.

    A full chunk is cut behind its last comma if that is among the last 20 tokens, and what follows goes into the next
    one. A learned word is never cut.

    Args:
        spans: the pieces of the prompt.
        tokenize: gives their tokens.
        comma: the id of a comma.
    """
    chunks: list[Chunk] = []
    ids: list[int] = []
    weights: list[float] = []
    last_comma = -1

    def close(kept: int | None = None) -> None:
        nonlocal ids, weights, last_comma
        kept = len(ids) if kept is None else kept
        chunks.append(Chunk(tuple(ids[:kept]), tuple(weights[:kept])))
        ids, weights, last_comma = ids[kept:], weights[kept:], -1

    for span in spans:
        if span.breaks:
            close()
        for unit in tokenize(span.text):
            if unit == (comma,):
                last_comma = len(ids)
            elif len(ids) == ROOM and 0 <= last_comma and len(ids) - last_comma <= BACK:
                close(last_comma + 1)
            if len(ids) + len(unit) > ROOM:
                close()
            ids += unit[:ROOM]
            weights += [span.weight] * len(unit[:ROOM])
    if ids or not chunks:
        close()
    return chunks
