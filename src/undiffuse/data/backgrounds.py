"""Plain and gradient backgrounds in named colours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image

from undiffuse.data.wording import with_article

COLOURS: dict[str, tuple[int, int, int]] = {
    "white": (255, 255, 255),
    "black": (0, 0, 0),
    "grey": (128, 128, 128),
    "red": (220, 40, 40),
    "orange": (245, 140, 30),
    "yellow": (250, 215, 50),
    "green": (60, 170, 75),
    "teal": (0, 150, 150),
    "blue": (50, 110, 220),
    "purple": (130, 70, 190),
    "pink": (245, 150, 190),
    "brown": (130, 85, 50),
}
GRADIENT = "gradient"
SHADE = 8  # levels by which a plain colour may be lighter or darker, all channels together


@dataclass(frozen=True)
class Background:
    """A canvas (RGB) and what it is called: a colour, or "blue to pink" from top to bottom."""

    name: str
    canvas: Image.Image

    @property
    def phrase(self) -> str:
        """How a caption says it: "on a blue background"."""
        if " to " in self.name:
            return f"on a gradient background from {self.name}"
        return f"on {with_article(self.name)} background"


def draw_background(weights: Mapping[str, float], size: int, rng: np.random.Generator) -> Background:
    """A background of `size` x `size` pixels, its kind chosen by weight. White stays pure white."""
    kinds = list(weights)
    share = np.array(list(weights.values()))
    kind = kinds[rng.choice(len(kinds), p=share / share.sum())]
    if kind == GRADIENT:
        return _gradient(size, rng)
    shade = 0 if kind == "white" else int(rng.integers(-SHADE, SHADE + 1))
    red, green, blue = (min(max(level + shade, 0), 255) for level in COLOURS[kind])
    return Background(kind, Image.new("RGB", (size, size), (red, green, blue)))


def _gradient(size: int, rng: np.random.Generator) -> Background:
    top, bottom = rng.choice(list(COLOURS), size=2, replace=False)
    mix = np.linspace(0, 1, size)[:, None]
    column = (1 - mix) * np.array(COLOURS[top]) + mix * np.array(COLOURS[bottom])  # (H, 3)
    rows = np.broadcast_to(column.round().astype(np.uint8)[:, None], (size, size, 3))
    return Background(f"{top} to {bottom}", Image.fromarray(np.ascontiguousarray(rows)))
