"""Captions for rendered pictures: the same thing said in many ways."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from undiffuse.core.spec import Spec
from undiffuse.data.wording import plural, with_article

# Styles that name a kind of picture, so that "3d render of a fox" is English.
PICTURE_NOUNS = ("render", "drawing", "painting", "photo", "picture", "sketch")
SIDE_BY_SIDE = ("{a} on the left and {b} on the right", "{a} to the left of {b}", "{a} next to {b}", "{a} and {b}")
TWINS = ("two {many}", "two {many} side by side", "two {many} next to each other", "a pair of {many}")
ABOVE = ("{a} above {b}", "{b} below {a}", "{a} at the top and {b} at the bottom")
MOST_KEYWORDS = 3

Order = Literal["listed", "scene_first", "painted"]


class CaptionSpec(Spec):
    """How captions vary.

    `orders` weighs "fox, 3d render, on a blue background" (listed), "fox on a blue background, 3d render"
    (scene_first) and "3d render of a fox on a blue background" (painted). The others are probabilities: an
    article, keywords in place of or after the name, no style, and a white background that goes unsaid.
    """

    orders: dict[Order, float] = Field(default={"listed": 0.5, "scene_first": 0.25, "painted": 0.25}, min_length=1)
    article: float = Field(default=0.5, ge=0, le=1)
    keywords: float = Field(default=0.15, ge=0, le=1)
    unstyled: float = Field(default=0.1, ge=0, le=1)
    unsaid_white: float = Field(default=0.5, ge=0, le=1)


def name_thing(name: str, keywords: list[str], spec: CaptionSpec, rng: np.random.Generator) -> str:
    """What the picture shows: "fox", "a fox", "fox, animal", or keywords alone."""
    if keywords and rng.random() < spec.keywords:
        count = int(rng.integers(1, min(len(keywords), MOST_KEYWORDS) + 1))
        words = [str(word) for word in rng.choice(keywords, size=count, replace=False)]
        alone = count > 1 and rng.random() < 0.5
        return ", ".join(words if alone else [name, *words])
    return with_article(name) if rng.random() < spec.article else name


def name_pair(first: str, second: str, stacked: bool, rng: np.random.Generator) -> str:
    """Two things and where they are; `first` is on the left or above."""
    templates = ABOVE if stacked else SIDE_BY_SIDE
    return templates[rng.integers(len(templates))].format(a=with_article(first), b=with_article(second))


def name_twins(name: str, rng: np.random.Generator) -> str:
    """Two of one thing: "two foxes"."""
    return TWINS[rng.integers(len(TWINS))].format(many=plural(name))


def write_caption(thing: str, style: str, scene: str, spec: CaptionSpec, rng: np.random.Generator) -> str:
    """Thing, style and scene in one caption; empty parts are left out."""
    if rng.random() < spec.unstyled:
        style = ""
    order = _choose_order(spec, rng)
    if order == "listed":
        return ", ".join(filter(None, (thing, style, scene)))
    if order == "painted" and style:
        return f"{_painted(thing, style)} {scene}".strip()
    return ", ".join(filter(None, (f"{thing} {scene}".strip(), style)))


def _painted(thing: str, style: str) -> str:
    if style.endswith(PICTURE_NOUNS):
        return f"{style} of {thing}"
    return f"{thing} in {style}" if style.endswith("style") else f"{thing} in {style} style"


def _choose_order(spec: CaptionSpec, rng: np.random.Generator) -> Order:
    orders = list(spec.orders)
    weights = np.array([spec.orders[order] for order in orders])
    return orders[rng.choice(len(orders), p=weights / weights.sum())]
