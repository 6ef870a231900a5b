"""A gallery of flat squares whose right answers are known: a concept is a hue, a style a lightness."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest
import torch
from PIL import Image
from torch import Tensor

from undiffuse.core.errors import DataError
from undiffuse.data.records import Row

CONCEPTS = [f"hue {number}" for number in range(8)]
STYLES = {"dark": 90, "bright": 150}
HELD_OUT = {("hue 0", "dark"), ("hue 3", "bright"), ("hue 5", "dark")}


def colour_of(concept: str, style: str) -> tuple[int, int, int]:
    """Eight hues on a circle about grey."""
    turn = 2 * math.pi * CONCEPTS.index(concept) / len(CONCEPTS)
    red, green, blue = (round(STYLES[style] + 60 * math.cos(turn + third * 2 * math.pi / 3)) for third in range(3))
    return red, green, blue


@dataclass
class Gallery:
    """Pictures in memory; a missing one cannot be read."""

    rows: list[Row]
    images: Sequence[Image.Image | None]

    def read(self, index: int) -> Image.Image:
        image = self.images[index]
        if image is None:
            raise DataError(f"{self.rows[index].key} is damaged.")
        return image

    def read_map(self, index: int) -> None:
        """No picture has a map."""


def _untold(images: Sequence[Image.Image | None]) -> Gallery:
    return Gallery([Row(f"picture {number}", "") for number in range(len(images))], images)


@pytest.fixture
def gallery() -> Callable[[Sequence[Image.Image | None]], Gallery]:
    """Makes a gallery of pictures of which nothing is told."""
    return _untold


@pytest.fixture
def mean_colour() -> Callable[[Tensor], Tensor]:
    """The stand-in for features: (B, 3), the mean of each channel."""
    return lambda pixels: pixels.float().mean(dim=(2, 3))


@pytest.fixture
def hues() -> Gallery:
    """Every concept in every style, those in HELD_OUT for validation."""
    pairs = [(concept, style) for concept in CONCEPTS for style in STYLES]
    rows = [
        Row(f"{c}-{s}", f"{c}, {s}", split="val" if (c, s) in HELD_OUT else "train", fields={"concept": c, "style": s})
        for c, s in pairs
    ]
    return Gallery(rows, [Image.new("RGB", (16, 16), colour_of(*pair)) for pair in pairs])


@pytest.fixture
def noise() -> Gallery:
    """Six pictures of random pixels."""
    levels = torch.randint(0, 256, (6, 24, 24, 3), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    return _untold([Image.fromarray(level.numpy()) for level in levels])
