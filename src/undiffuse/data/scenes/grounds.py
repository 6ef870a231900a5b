"""Grounds and skies: what they are called, what colours they have, and what stands on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Ground:
    """A ground: its class in maps, its colours far away and close by, and how likely each class stands on it.

    `phrases` tell where a thing on it is; `hills` are colours of what rises at the horizon, `hill_class` is its class.
    """

    map_class: str
    phrases: tuple[str, ...]
    far: Colour
    near: Colour
    marks: Literal["tufts", "drifts", "waves", "lane", "planks"]
    stands: dict[str, float]
    hills: tuple[Colour, ...] = ()
    hill_class: str = "grass"


OUTDOORS = {
    "animal": 0.28,
    "person": 0.16,
    "plant": 0.16,
    "building": 0.13,
    "vehicle": 0.11,
    "face": 0.05,
    "food": 0.05,
    "object": 0.06,
}
GREEN_HILLS: tuple[Colour, ...] = ((110, 170, 90), (90, 150, 110), (140, 180, 100))

GROUNDS: dict[str, Ground] = {
    "grass": Ground(
        "grass", ("on grass", "on the grass", "on a meadow"), (150, 200, 90), (84, 156, 60), "tufts", OUTDOORS, GREEN_HILLS
    ),
    "sand": Ground(
        "sand", ("on sand", "on the sand", "on a beach"), (240, 218, 160), (222, 184, 116), "drifts", OUTDOORS,
        ((228, 196, 130), (214, 176, 112)), "sand",
    ),
    "snow": Ground(
        "snow", ("on snow", "in the snow"), (232, 240, 250), (206, 222, 242), "drifts", OUTDOORS,
        ((196, 212, 234), (214, 226, 242)), "snow",
    ),
    "water": Ground(
        "water", ("on water", "on the sea"), (110, 186, 226), (28, 104, 178), "waves",
        {"animal": 0.5, "vehicle": 0.4, "person": 0.1}, GREEN_HILLS,
    ),
    "road": Ground(
        "road", ("on a road", "on the street"), (120, 122, 130), (92, 94, 102), "lane",
        {"vehicle": 0.4, "person": 0.22, "animal": 0.18, "building": 0.1, "object": 0.1}, GREEN_HILLS,
    ),
    "floor": Ground(
        "floor", ("on a wooden floor", "on the floor"), (206, 158, 108), (168, 116, 70), "planks",
        {"food": 0.3, "object": 0.3, "face": 0.14, "animal": 0.14, "person": 0.12},
    ),
}  # fmt: skip
GROUND_WEIGHTS = {"grass": 0.26, "sand": 0.16, "snow": 0.15, "water": 0.13, "road": 0.13, "floor": 0.17}


@dataclass(frozen=True)
class Sky:
    """A sky or a wall: its colours from top to horizon, what is seen in it, and the light that it casts on the ground."""

    map_class: str
    phrases: tuple[str, ...]
    top: Colour
    bottom: Colour
    light: tuple[float, float, float] = (1.0, 1.0, 1.0)
    shows: tuple[Literal["sun", "moon", "stars", "clouds"], ...] = ()


GREY_LIGHT = (0.86, 0.88, 0.92)
SKIES: dict[str, Sky] = {
    "blue": Sky("sky", ("under a blue sky", "on a sunny day"), (72, 150, 232), (196, 228, 252), shows=("sun",)),
    "cloudy": Sky("sky", ("under a cloudy sky", "under white clouds"), (90, 164, 232), (206, 232, 250), shows=("clouds",)),
    "grey": Sky("sky", ("under a grey sky", "on a dull day"), (140, 150, 162), (200, 206, 212), (0.86, 0.9, 0.9), ("clouds",)),
    "sunset": Sky("sky", ("at sunset", "under a sunset sky"), (104, 70, 150), (255, 166, 92), (1.0, 0.84, 0.76), ("sun",)),
    "dawn": Sky("sky", ("at dawn", "under a pink sky"), (150, 170, 232), (255, 208, 214), (1.0, 0.93, 0.95)),
    "night": Sky("sky", ("at night", "under a night sky"), (12, 18, 56), (48, 62, 128), (0.42, 0.48, 0.68), ("stars", "moon")),
}
SKY_WEIGHTS = {"blue": 0.24, "cloudy": 0.18, "grey": 0.13, "sunset": 0.17, "dawn": 0.11, "night": 0.17}

WALLS: dict[str, Sky] = {
    name: Sky("wall", (f"in front of a {name} wall", f"before a {name} wall"), colour, colour)
    for name, colour in {
        "white": (244, 240, 232),
        "pink": (244, 186, 200),
        "blue": (148, 190, 230),
        "green": (158, 206, 164),
        "yellow": (250, 222, 132),
        "grey": (178, 182, 190),
    }.items()
}
