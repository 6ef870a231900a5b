"""What a scene shows and where: things chosen by chance, placed so that nearer ones stand lower and are larger."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from PIL import Image

from undiffuse.core.errors import DataError, explain
from undiffuse.data.scenes.classes import HEIGHTS
from undiffuse.data.scenes.grounds import GROUND_WEIGHTS, GROUNDS, SKY_WEIGHTS, WALLS
from undiffuse.data.scenes.things import Kind, Things
from undiffuse.data.wording import with_article

T = TypeVar("T")

COUNT_WEIGHTS = {1: 0.27, 2: 0.36, 3: 0.23, 4: 0.14}
SIZES = {1: (0.5, 0.72), 2: (0.38, 0.54), 3: (0.3, 0.45), 4: (0.26, 0.38)}  # heights close by, of the side
GROUP_SHARE = 0.22  # of scenes with several things that show one of them many times
GROUP_MOST = 0.4  # of these that show another thing too
HELD_OUT_SHARE = 0.5  # of the things of validation scenes
FAR_SIZE = 0.6  # of a thing at the horizon, against close by
MOST_HIDDEN = 0.25  # of a thing's box behind nearer ones
MARGIN = 0.02
TRIES = 40
WIDEST = 0.62  # of the side


@dataclass(frozen=True)
class Thing:
    """A kind at a place: left, top, right, bottom in fractions of the side; flying things stand on nothing."""

    kind: Kind
    box: tuple[float, float, float, float]
    flies: bool = False

    @property
    def concept(self) -> str:
        """What it is called."""
        return self.kind.concept

    @property
    def middle(self) -> float:
        """Its middle from left to right."""
        return (self.box[0] + self.box[2]) / 2


@dataclass(frozen=True)
class Scene:
    """A style, a ground under a sky or before a wall, the horizon, and things from far to near."""

    style: str
    ground: str
    sky: str
    horizon: float
    things: tuple[Thing, ...]

    @property
    def indoors(self) -> bool:
        """Whether `sky` names a wall."""
        return self.ground == "floor"


def choose(weights: Mapping[T, float], rng: np.random.Generator) -> T:
    """One key, by weight."""
    names = list(weights)
    shares = np.array([weights[name] for name in names], np.float64)
    return names[int(rng.choice(len(names), p=shares / shares.sum()))]


def plan_scene(things: Things, split: str, rng: np.random.Generator) -> Scene:
    """A scene of this split; held-out pairs of the cut-outs appear in "val" only.

    Raises:
        DataError: when no thing fits into any scene.
    """
    for _ in range(TRIES):
        style = str(rng.choice(things.styles))
        ground = choose(GROUND_WEIGHTS, rng)
        sky = str(rng.choice(list(WALLS))) if ground == "floor" else choose(SKY_WEIGHTS, rng)
        horizon = float(rng.uniform(0.42, 0.66) if ground != "floor" else rng.uniform(0.5, 0.68))
        kinds = _kinds(things, style, ground, split, rng)
        placed: list[Thing] = []
        for kind in kinds:
            picture = things.art(kind.index)
            if picture is not None and (thing := _placed(kind, picture, placed, horizon, ground, len(kinds), rng)):
                placed.append(thing)
        if placed:
            order = sorted(placed, key=lambda thing: (not thing.flies, thing.box[3]))
            return Scene(style, ground, sky, horizon, tuple(order))
    raise DataError(explain("no scene could be made", "cut-outs of animals, people, plants and the like are needed"))


def _kinds(things: Things, style: str, ground: str, split: str, rng: np.random.Generator) -> list[Kind]:
    """What is shown: different things, or one thing many times with perhaps another."""
    count = choose(COUNT_WEIGHTS, rng)
    if count > 1 and rng.random() < GROUP_SHARE:
        one = _kind(things, style, ground, split, rng, ())
        if one is None:
            return []
        if with_article(one.concept) == one.concept:  # substances, pairs and proper names are not counted
            return [one]
        other = _kind(things, style, ground, split, rng, (one,)) if count > 2 and rng.random() < GROUP_MOST else None
        return [one] * (count - (other is not None)) + ([other] if other else [])
    chosen: list[Kind] = []
    for _ in range(count):
        if kind := _kind(things, style, ground, split, rng, tuple(chosen)):
            chosen.append(kind)
    return chosen


def _kind(
    things: Things, style: str, ground: str, split: str, rng: np.random.Generator, taken: tuple[Kind, ...]
) -> Kind | None:
    for _ in range(TRIES):
        kinds = things.of(style, choose(GROUNDS[ground].stands, rng))
        wanted = "val" if split == "val" and rng.random() < HELD_OUT_SHARE else "train"
        kinds = [kind for kind in kinds if kind.split == wanted and _belongs(kind, ground)]
        if not kinds:
            continue
        kind = kinds[int(rng.integers(len(kinds)))]
        if kind.concept not in {other.concept for other in taken} and things.art(kind.index) is not None:
            return kind
    return None


def _belongs(kind: Kind, ground: str) -> bool:
    """Whether the thing may be there: swimmers are at home on water, flyers anywhere outdoors."""
    if ground == "water":
        return kind.habitat in ("water", "air")
    if ground == "floor":
        return kind.habitat != "air" or kind.map_class in ("object", "animal")
    return kind.habitat != "water" or kind.map_class == "animal"


def _placed(
    kind: Kind,
    picture: Image.Image,
    others: list[Thing],
    horizon: float,
    ground: str,
    count: int,
    rng: np.random.Generator,
) -> Thing | None:
    """The thing at a place where it hides, and is hidden, little enough; None when a few tries find none."""
    flies = kind.habitat == "air" and ground != "floor"
    for attempt in range(TRIES):
        shrink = 1 - 0.3 * attempt / TRIES
        close = float(rng.uniform(*SIZES[count])) * HEIGHTS[kind.map_class] * shrink
        near = float(rng.uniform(0.12 if count > 1 else 0.35, 0.95))
        height = close * (0.6 if flies else FAR_SIZE + (1 - FAR_SIZE) * near)
        width = height * picture.width / picture.height
        if width > WIDEST:
            height, width = height * WIDEST / width, WIDEST
        if flies:
            bottom = float(rng.uniform(height + MARGIN, max(horizon * 0.95, height + 2 * MARGIN)))
        else:
            bottom = horizon + (1 - horizon) * near
        if bottom - height < MARGIN or width > 1 - 2 * MARGIN:
            continue
        left = float(rng.uniform(MARGIN, 1 - MARGIN - width))
        thing = Thing(kind, (left, bottom - height, left + width, bottom), flies)
        if all(_apart(thing, other) for other in others):
            return thing
    return None


def _apart(one: Thing, other: Thing) -> bool:
    """Whether neither hides much of the other; things that are equally near do not touch."""
    width = min(one.box[2], other.box[2]) - max(one.box[0], other.box[0])
    height = min(one.box[3], other.box[3]) - max(one.box[1], other.box[1])
    if width <= 0 or height <= 0:
        return True
    if one.flies or other.flies or abs(one.box[3] - other.box[3]) < 0.05:
        return False
    hidden = min(one, other, key=lambda thing: thing.box[3]).box
    return width * height <= MOST_HIDDEN * (hidden[2] - hidden[0]) * (hidden[3] - hidden[1])
