"""Captions of scenes: what stands where, in several wordings, always true of the picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from undiffuse.data.captions import CaptionSpec, write_caption
from undiffuse.data.scenes.grounds import GROUNDS, SKIES, WALLS
from undiffuse.data.scenes.plan import Scene, Thing
from undiffuse.data.wording import plural, with_article

NUMBERS = {2: "two", 3: "three", 4: "four"}
SCENE_CAPTIONS = CaptionSpec(orders={"listed": 0.3, "scene_first": 0.45, "painted": 0.25}, unstyled=0.12)
UNSAID_GROUND, UNSAID_SKY = 0.12, 0.35
FARTHEST = ("above", "at the far left", "at the far right", "in front")
VAGUE = 0.15  # of relations told only as "a and b" or "a next to b"

WORDINGS = {
    "left of": ("{a} to the left of {b}", "{b} to the right of {a}", "{a} left of {b}", "{a} on the left and {b} on the right"),
    "in front of": ("{a} in front of {b}", "{b} behind {a}"),
    "above": ("{a} above {b}", "{b} below {a}", "{a} over {b}"),
}


def relation(one: Thing, other: Thing) -> str:
    """How `one` is to `other`: "left of", "in front of", "above", or "" when none of these is plainly so."""
    if one.box[3] <= other.box[1] + 0.02 and one.flies:
        return "above"
    if one.flies or other.flies:
        return ""
    overlap = min(one.box[2], other.box[2]) - max(one.box[0], other.box[0])
    if overlap <= 0.25 * min(one.box[2] - one.box[0], other.box[2] - other.box[0]):
        return "left of" if one.middle < other.middle else ""
    return "in front of" if one.box[3] > other.box[3] + 0.03 and one.box[1] < other.box[3] else ""


def relations(things: tuple[Thing, ...]) -> list[list[str]]:
    """Every plain relation as [concept, relation, concept], between different concepts that are there once."""
    count = Counter(thing.concept for thing in things)
    once = [thing for thing in things if count[thing.concept] == 1]
    pairs = [(one, other) for one in once for other in once if one is not other]
    return [[one.concept, told, other.concept] for one, other in pairs if (told := relation(one, other))]


def caption(scene: Scene, rng: np.random.Generator) -> str:
    """One sentence or list of words about the scene."""
    return write_caption(_things(scene.things, rng), scene.style, _place(scene, rng), SCENE_CAPTIONS, rng)


def arrangement(things: tuple[Thing, ...]) -> str:
    """ "one", "many" of the same, or "several"."""
    concepts = {thing.concept for thing in things}
    return "one" if len(things) == 1 else "several" if len(concepts) == len(things) else "many"


def _place(scene: Scene, rng: np.random.Generator) -> str:
    ground = _one(GROUNDS[scene.ground].phrases, rng) if rng.random() >= UNSAID_GROUND else ""
    sky = _one((WALLS if scene.indoors else SKIES)[scene.sky].phrases, rng) if rng.random() >= UNSAID_SKY else ""
    return " ".join(filter(None, (ground, sky)))


def _things(things: tuple[Thing, ...], rng: np.random.Generator) -> str:
    count = Counter(thing.concept for thing in things)
    if len(count) < len(things) or len(things) == 1:
        return _listed([_counted(name, number) for name, number in count.items()])
    if len(things) == 2:
        return _pair(things[0], things[1], rng)
    if rng.random() < 0.25:
        return _row(things) or _listed([with_article(thing.concept) for thing in _shuffled(things, rng)])
    first, second, *rest = _shuffled(things, rng)
    beside = sorted((_beside(thing, things) for thing in rest), key=lambda told: not told.endswith(FARTHEST))
    return f"{_pair(first, second, rng, alone=False)}, with {_listed(beside)}"


def _pair(one: Thing, other: Thing, rng: np.random.Generator, alone: bool = True) -> str:
    """Two things and how they are to each other; where there are more, not which of the two is on the left of all."""
    for a, b in ((one, other), (other, one)):
        if (told := relation(a, b)) and rng.random() >= VAGUE:
            wordings = [words for words in WORDINGS[told] if alone or "on the left" not in words]
            return _one(wordings, rng).format(a=with_article(a.concept), b=with_article(b.concept))
    joint = " next to " if rng.random() < 0.4 and not (one.flies or other.flies) else " and "
    return f"{with_article(one.concept)}{joint}{with_article(other.concept)}"


def _beside(thing: Thing, things: tuple[Thing, ...]) -> str:
    """One thing more, and where it is among all of them if that is plain."""
    others = [other for other in things if other is not thing]
    name = with_article(thing.concept)
    if thing.flies and all(relation(thing, other) == "above" for other in others if not other.flies):
        return f"{name} above"
    if all(relation(thing, other) == "left of" for other in others):
        return f"{name} at the far left"
    if all(relation(other, thing) == "left of" for other in others):
        return f"{name} at the far right"
    if all(relation(thing, other) == "in front of" for other in others):
        return f"{name} in front"
    return name


def _row(things: tuple[Thing, ...]) -> str:
    """All of them from left to right, when they stand in a row."""
    order = sorted(things, key=lambda thing: thing.middle)
    if any(relation(one, other) != "left of" for one, other in pairwise(order)):
        return ""
    return "from left to right " + _listed([with_article(thing.concept) for thing in order])


def _counted(name: str, count: int) -> str:
    return with_article(name) if count == 1 else f"{NUMBERS[count]} {plural(name)}"


def _listed(parts: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))


def _shuffled(things: tuple[Thing, ...], rng: np.random.Generator) -> list[Thing]:
    return [things[int(place)] for place in rng.permutation(len(things))]


def _one(wordings: Sequence[str], rng: np.random.Generator) -> str:
    return wordings[int(rng.integers(len(wordings)))]
