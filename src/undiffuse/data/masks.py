"""Masks for learning to fill holes: what a user would paint, drawn by chance."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

MaskShape = Literal["box", "brush", "half", "full", "outside"]


def draw_mask(size: tuple[int, int], shapes: Mapping[MaskShape, float], rng: np.random.Generator) -> Tensor:
    """A mask (1, H, W), 1 where the picture is hidden, of a shape chosen by these weights.

    "box" is a rectangle, "brush" a few thick strokes, "half" one half along a side or a slope, "full" all of it,
    "outside" everything but a rectangle (outpainting). In the manner of LaMa's masks (Suvorov et al. 2022).
    """
    names = list(shapes)
    weights = np.array([shapes[name] for name in names], dtype=np.float64)
    shape = names[rng.choice(len(names), p=weights / weights.sum())]
    canvas = Image.new("L", (size[1], size[0]), 0)
    SHAPES[shape](canvas, rng)
    return torch.from_numpy((np.asarray(canvas) > 0).astype(np.float32))[None]


def _box(canvas: Image.Image, rng: np.random.Generator) -> None:
    ImageDraw.Draw(canvas).rectangle(_rectangle(canvas.size, rng, 0.2, 0.7), fill=255)


def _brush(canvas: Image.Image, rng: np.random.Generator) -> None:
    draw, side = ImageDraw.Draw(canvas), min(canvas.size)
    for _ in range(int(rng.integers(1, 5))):
        x, y = (float(rng.uniform(0, length)) for length in canvas.size)
        angle, thick = float(rng.uniform(0, 2 * math.pi)), float(rng.uniform(0.06, 0.2)) * side
        for _ in range(int(rng.integers(2, 9))):
            angle += float(rng.normal(0, 0.7))
            reach = float(rng.uniform(0.1, 0.3)) * side
            end = (x + reach * math.cos(angle), y + reach * math.sin(angle))
            draw.line([(x, y), end], fill=255, width=round(thick))
            draw.ellipse([end[0] - thick / 2, end[1] - thick / 2, end[0] + thick / 2, end[1] + thick / 2], fill=255)
            x, y = end


def _half(canvas: Image.Image, rng: np.random.Generator) -> None:
    """One side of a line through the middle; most lines are upright or level."""
    angle = float(rng.integers(4)) * math.pi / 2 if rng.random() < 0.7 else float(rng.uniform(0, 2 * math.pi))
    width, height = canvas.size
    x, y = np.meshgrid(np.arange(width) + 0.5 - width / 2, np.arange(height) + 0.5 - height / 2)
    hidden = x * math.cos(angle) + y * math.sin(angle) > 0
    canvas.paste(Image.fromarray((hidden * 255).astype(np.uint8)))


def _full(canvas: Image.Image, _rng: np.random.Generator) -> None:
    canvas.paste(255, (0, 0, *canvas.size))


def _outside(canvas: Image.Image, rng: np.random.Generator) -> None:
    _full(canvas, rng)
    ImageDraw.Draw(canvas).rectangle(_rectangle(canvas.size, rng, 0.4, 0.8), fill=0)


def _rectangle(size: tuple[int, int], rng: np.random.Generator, least: float, most: float) -> list[int]:
    """Left, top, right, bottom of a rectangle with sides between these shares of the canvas."""
    width, height = (max(1, round(float(rng.uniform(least, most)) * side)) for side in size)
    left, top = int(rng.integers(0, size[0] - width + 1)), int(rng.integers(0, size[1] - height + 1))
    return [left, top, left + width - 1, top + height - 1]


SHAPES: dict[MaskShape, Callable[[Image.Image, np.random.Generator], None]] = {
    "box": _box,
    "brush": _brush,
    "half": _half,
    "full": _full,
    "outside": _outside,
}
