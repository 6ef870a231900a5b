"""Landscapes whose right answers are known: a season is the colour of the ground, a thing the colour of a square on it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from undiffuse.core.errors import DataError
from undiffuse.core.pictures import to_pixels
from undiffuse.data.records import Row
from undiffuse.evaluation import report
from undiffuse.evaluation.contexts.bench import Bench

SIZE = 32
SKY = (120, 170, 240)
SEASONS = {"summer": (60, 140, 50), "winter": (245, 245, 250)}
CLASSES = ["sky", "ground", "thing"]
THINGS = [f"hue {number}" for number in range(7)]
TRAIN, VAL = 28, 7


def hue(thing: str) -> tuple[int, int, int]:
    """Seven hues on a circle about grey."""
    turn = 2 * math.pi * THINGS.index(thing) / len(THINGS)
    red, green, blue = (round(120 + 110 * math.cos(turn + third * 2 * math.pi / 3)) for third in range(3))
    return red, green, blue


@dataclass
class Scenery:
    """Landscapes in memory, four fifths of them for training; a missing picture cannot be read."""

    rows: list[Row] = field(default_factory=list)
    images: list[Image.Image | None] = field(default_factory=list)
    maps: list[Image.Image | None] = field(default_factory=list)
    map_classes: list[str] = field(default_factory=lambda: list(CLASSES))

    def read(self, index: int) -> Image.Image:
        image = self.images[index]
        if image is None:
            raise DataError(f"{self.rows[index].key} is damaged.")
        return image

    def read_map(self, index: int) -> Image.Image | None:
        return self.maps[index]

    def add(self, number: int, split: str) -> None:
        season, thing = list(SEASONS)[number % 2], THINGS[number % 7]
        horizon, left = 8 + number % 9, 2 + 3 * number % 17
        image = Image.new("RGB", (SIZE, SIZE), SKY)
        image.paste(SEASONS[season], (0, horizon, SIZE, SIZE))
        image.paste(hue(thing), (left, 18, left + 12, 30))
        indices = Image.new("L", (SIZE, SIZE), 0)
        indices.paste(1, (0, horizon, SIZE, SIZE))
        indices.paste(2, (left, 18, left + 12, 30))
        box = [left / SIZE, 18 / SIZE, (left + 12) / SIZE, 30 / SIZE, thing]
        caption = f"{thing} in {season}, {split} {number}"
        self.rows.append(Row(f"{split}-{number}", caption, season, split, {"boxes": [box], "season": season}))
        self.images.append(image)
        self.maps.append(indices)


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "RESAMPLES", 50)


@pytest.fixture
def scenery() -> Scenery:
    found = Scenery()
    for number in range(TRAIN):
        found.add(number, "train")
    for number in range(VAL):
        found.add(number, "val")
    return found


class Coarse:
    """The stand-in for features: the picture in 4 x 4 cells, as a vector and as a map."""

    def __call__(self, pixels: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(pixels.float(), 4).flatten(1)

    def maps(self, pixels: Tensor) -> list[Tensor]:
        return [F.avg_pool2d(pixels.float(), 4)]


class Painter:
    """Draws the real picture that the prompt is the caption of, or any of the label; `spoil` makes something else of it."""

    def __init__(self, scenery: Scenery, spoil: Callable[[Tensor, Mapping[str, Any]], Tensor] | None = None) -> None:
        self.scenery = scenery
        self.spoil = spoil or (lambda pixels, said: pixels)
        self.asked: list[Mapping[str, Any]] = []

    def __call__(self, requests: Sequence[Mapping[str, Any]]) -> Tensor:
        self.asked += requests
        return torch.stack([self.spoil(self.paint(said), said) for said in requests])

    def paint(self, said: Mapping[str, Any]) -> Tensor:
        known = zip(self.scenery.rows, self.scenery.images, strict=True)
        wanted = said.get("prompt") or said.get("label")
        return next(to_pixels(image) for row, image in known if image is not None and wanted in (row.caption, row.label))


@pytest.fixture
def painter(scenery: Scenery) -> Callable[..., Painter]:
    return lambda spoil=None: Painter(scenery, spoil)


@pytest.fixture
def bench(scenery: Scenery) -> Callable[..., Bench]:
    """Makes a bench of the scenery for somebody who draws."""
    plain = Bench(
        scenery, Painter(scenery), Coarse(), size=SIZE, words=True, count=100, seed=0, batch=3,
        tell=lambda done, total, what: None,
    )  # fmt: skip
    return lambda draw=None, **changes: replace(plain, **({"draw": draw} if draw else {}), **changes)


@pytest.fixture
def values() -> Callable[[Any], dict[str, float]]:
    return lambda report: {name: figure.value for name, figure in report.figures().items()}
