"""What a model is asked to draw when it is measured: which things, in which words, from which seeds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from undiffuse.core.errors import DataError, explain
from undiffuse.core.random import numpy_stream, stream_seed
from undiffuse.data.backgrounds import COLOURS
from undiffuse.data.records import Row
from undiffuse.data.wording import with_article

WHITE = "white"

Kind = Literal["seen", "held out", "background", "synonym", "left-right", "above-below", "count"]


class Pair(NamedTuple):
    """A concept in a style; a split holds such pairs out, never a whole concept."""

    concept: str
    style: str


@dataclass(frozen=True)
class Prompt:
    """One picture to draw: the words, the seed, what they ask for and which figure it counts for."""

    text: str
    seed: int
    pair: Pair
    background: str
    kind: Kind


def pair_of(row: Row) -> Pair | None:
    """The concept and the style of a picture; None when its row does not tell both."""
    pair = Pair(str(row.fields.get("concept") or ""), str(row.fields.get("style") or ""))
    return pair if all(pair) else None


def seen_and_held_out(rows: Iterable[Row]) -> tuple[list[Pair], list[Pair]]:
    """The pairs of the training split, and those of the validation split that are in no training picture; sorted.

    Raises:
        DataError: when either list is empty.
    """
    found = [(row.split, pair) for row in rows if (pair := pair_of(row)) is not None]
    if not found:
        given = "no picture of this data set tells its concept and its style"
        remedy = "the set of 'undiffuse data build emoji' tells both; 'undiffuse evaluate autoencoder' needs neither"
        raise DataError(explain(given, "prompts are made of the two", remedy))
    seen = {pair for split, pair in found if split == "train"}
    held_out = {pair for split, pair in found if split == "val"} - seen
    for pairs, what in ((seen, "in the training split"), (held_out, "in the validation split alone")):
        if not pairs:
            allowed = "both splits are needed, with different pairs of concept and style"
            raise DataError(explain(f"no pair of concept and style is {what}", allowed, "name a split for every picture"))
    return sorted(seen), sorted(held_out)


def white_prompts(pairs: Sequence[Pair], count: int, seed: int, kind: Kind) -> list[Prompt]:
    """Prompts for `count` different pairs (all when there are fewer) on white, as the references are drawn."""
    order = numpy_stream("evaluate", kind, seed).permutation(len(pairs))[:count]
    return [_prompt(pairs[index], WHITE, seed, kind, number) for number, index in enumerate(order)]


def coloured_prompts(pairs: Sequence[Pair], count: int, seed: int) -> list[Prompt]:
    """Prompts for `count` pairs, each on one of the named colours, white too, all equally likely."""
    rng = numpy_stream("evaluate", "background", seed)
    order = rng.permutation(len(pairs))[:count]
    colours = rng.choice(list(COLOURS), size=len(order))
    chosen = zip(order, colours, strict=True)
    return [_prompt(pairs[index], str(name), seed, "background", number) for number, (index, name) in enumerate(chosen)]


def _prompt(pair: Pair, background: str, seed: int, kind: Kind, number: int) -> Prompt:
    return Prompt(ask_for(*pair, background), stream_seed("evaluate", kind, seed, number), pair, background, kind)


def ask_for(thing: str, style: str, background: str = WHITE) -> str:
    """A thing in a style on a background, in words."""
    return f"{thing}, {style}, on {with_article(background)} background"
