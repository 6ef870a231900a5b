"""Painting a ground under a sky, with the map of both, by plain arithmetic on arrays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from undiffuse.data.scenes.classes import MAP_CLASSES
from undiffuse.data.scenes.grounds import Colour, Ground, Sky

HILLS_SHARE = 0.55
VERGE = 0.12  # of the road's ground, from the horizon on, that is grass
VERGE_COLOURS: tuple[Colour, Colour] = ((146, 196, 92), (104, 168, 74))


@dataclass(frozen=True)
class Backdrop:
    """Levels (S, S, 3) float32 in 0 to 255, and class indices (S, S) uint8."""

    levels: np.ndarray
    indices: np.ndarray


def paint_backdrop(ground: Ground, sky: Sky, horizon: float, size: int, rng: np.random.Generator) -> Backdrop:
    """A square of `size` pixels with this ground and sky."""
    levels = np.empty((size, size, 3), np.float32)
    levels[:] = _gradient(_varied(sky.top, rng), _varied(sky.bottom, rng), horizon, size)
    indices = np.full((size, size), MAP_CLASSES.index(sky.map_class), np.uint8)
    for what in sky.shows:
        SKY_PAINTERS[what](levels, horizon, sky, rng)
    light = np.array(sky.light, np.float32)
    if ground.hills and rng.random() < HILLS_SHARE:
        _hills(levels, indices, ground, horizon, light, rng)
    below = _coverage(np.full(size, horizon * size), size)
    surface = _gradient(_varied(ground.far, rng), _varied(ground.near, rng), 1 - horizon, size, horizon) * np.ones((1, size, 1))
    MARKS[ground.marks](surface, horizon, rng)
    _lay(levels, indices, surface * light, below, MAP_CLASSES.index(ground.map_class))
    if ground.marks == "lane":
        verge = below - _coverage(np.full(size, (horizon + VERGE * (1 - horizon)) * size), size)
        _lay(levels, indices, _gradient(*VERGE_COLOURS, 1 - horizon, size, horizon) * light, verge, MAP_CLASSES.index("grass"))
    return Backdrop(levels.clip(0, 255), indices)


def _varied(colour: Colour, rng: np.random.Generator) -> np.ndarray:
    """A colour a little lighter or darker, and a little off."""
    return (np.array(colour) + rng.uniform(-12, 12) + rng.uniform(-7, 7, 3)).clip(0, 255).astype(np.float32)


def _gradient(top: object, bottom: object, length: float, size: int, start: float = 0.0) -> np.ndarray:
    """Rows (S, 1, 3) that go from one colour at `start` to another `length` further down (fractions of the side)."""
    mix = ((np.arange(size) + 0.5) / size - start) / length
    mix = mix.clip(0, 1).astype(np.float32)[:, None, None]
    return (1 - mix) * np.asarray(top, np.float32) + mix * np.asarray(bottom, np.float32)


def _coverage(edge: np.ndarray, size: int) -> np.ndarray:
    """How much of each pixel (S, S) lies below an edge given for every column, in pixels."""
    return (np.arange(size)[:, None] + 1 - edge[None]).clip(0, 1).astype(np.float32)


def _lay(levels: np.ndarray, indices: np.ndarray, colour: np.ndarray, cover: np.ndarray, index: int) -> None:
    levels += cover[..., None] * (colour - levels)
    indices[cover > 0.5] = index


def _disc(size: int, x: float, y: float, rx: float, ry: float, soft: float = 1.0) -> np.ndarray:
    """Coverage (S, S) of an ellipse; places and radii as fractions of the side, the edge `soft` pixels wide."""
    across = ((np.arange(size) + 0.5) / size - x)[None] / rx
    down = ((np.arange(size) + 0.5) / size - y)[:, None] / ry
    away = np.sqrt(across**2 + down**2)
    return ((1 - away) * min(rx, ry) * size / soft + 0.5).clip(0, 1).astype(np.float32)


def _sun(levels: np.ndarray, horizon: float, sky: Sky, rng: np.random.Generator) -> None:
    if rng.random() < 0.35:
        return
    low = sky.bottom[2] < 128
    y = horizon * (rng.uniform(0.72, 1.0) if low else rng.uniform(0.14, 0.35))
    x, radius = float(rng.uniform(0.1, 0.9)), float(rng.uniform(0.05, 0.09))
    colour = np.array((255, 226, 140) if low else (255, 244, 190), np.float32)
    glow = _disc(len(levels), x, y, radius * 3, radius * 3, radius * 3 * len(levels))
    levels += glow[..., None] * 0.5 * (colour - levels)
    levels += _disc(len(levels), x, y, radius, radius)[..., None] * (colour - levels)


def _moon(levels: np.ndarray, horizon: float, sky: Sky, rng: np.random.Generator) -> None:
    if rng.random() < 0.4:
        return
    size, radius = len(levels), float(rng.uniform(0.045, 0.075))
    x, y = float(rng.uniform(0.1, 0.9)), horizon * float(rng.uniform(0.15, 0.4))
    cover = _disc(size, x, y, radius, radius)
    if rng.random() < 0.5:
        cover = cover * (1 - _disc(size, x + radius * 0.5, y - radius * 0.2, radius * 0.9, radius * 0.9))
    levels += cover[..., None] * (np.array((246, 240, 212), np.float32) - levels)


def _stars(levels: np.ndarray, horizon: float, sky: Sky, rng: np.random.Generator) -> None:
    size = len(levels)
    count = int(rng.integers(12, 36))
    rows = rng.uniform(0, horizon * 0.92, count) * size
    columns = rng.uniform(0, 1, count) * size
    bright = rng.uniform(0.35, 0.95, count)[:, None]
    place = (rows.astype(int), columns.astype(int))
    levels[place] += bright * (255 - levels[place])


def _clouds(levels: np.ndarray, horizon: float, sky: Sky, rng: np.random.Generator) -> None:
    size = len(levels)
    white = np.array(sky.bottom, np.float32) * 0.25 + 190
    for _ in range(int(rng.integers(2, 5))):
        x, y, width = float(rng.uniform(0, 1)), horizon * float(rng.uniform(0.12, 0.7)), float(rng.uniform(0.07, 0.14))
        cover = np.zeros((size, size), np.float32)
        for step in (-0.8, -0.25, 0.35, 0.9):
            high = width * float(rng.uniform(0.35, 0.55)) * (1.3 - abs(step) * 0.6)
            cover = np.maximum(cover, _disc(size, x + step * width, y - high * 0.4, width * 0.55, high, 2.0))
        cover[int((y + width * 0.12) * size) :] = 0
        levels += cover[..., None] * 0.85 * (white - levels)


def _hills(
    levels: np.ndarray, indices: np.ndarray, ground: Ground, horizon: float, light: np.ndarray, rng: np.random.Generator
) -> None:
    size = len(levels)
    columns = np.arange(size) / size
    for depth in range(int(rng.integers(1, 3)), 0, -1):
        edge = sum(float(rng.uniform(0.3, 1)) / k * np.sin(2 * np.pi * (k * columns * 0.8 + rng.random())) for k in (1, 2, 3))
        top = (horizon - 0.05 * depth - 0.035 * (1 + np.asarray(edge))) * size
        colour = _varied(ground.hills[int(rng.integers(len(ground.hills)))], rng)
        hazy = colour + (np.array((190, 205, 225), np.float32) - colour) * 0.25 * (depth - 1)
        _lay(levels, indices, hazy * light, _coverage(top, size), MAP_CLASSES.index(ground.hill_class))


def _tufts(surface: np.ndarray, horizon: float, rng: np.random.Generator) -> None:
    size = len(surface)
    for _ in range(int(rng.integers(8, 20))):
        y = horizon + (1 - horizon) * float(rng.uniform(0.05, 1.0))
        near = (y - horizon) / (1 - horizon)
        cover = _disc(size, float(rng.uniform(0, 1)), y, 0.02 + 0.05 * near, 0.004 + 0.01 * near)
        surface += cover[..., None] * float(rng.choice((-16, 14)))


def _drifts(surface: np.ndarray, horizon: float, rng: np.random.Generator) -> None:
    size = len(surface)
    for _ in range(int(rng.integers(2, 6))):
        y = horizon + (1 - horizon) * float(rng.uniform(0.05, 1.0))
        near = (y - horizon) / (1 - horizon)
        cover = _disc(size, float(rng.uniform(0, 1)), y, 0.15 + 0.3 * near, 0.01 + 0.04 * near, 3.0)
        surface += cover[..., None] * float(rng.choice((-10, 9)))


def _waves(surface: np.ndarray, horizon: float, rng: np.random.Generator) -> None:
    size = len(surface)
    for _ in range(int(rng.integers(8, 18))):
        y = horizon + (1 - horizon) * float(rng.uniform(0.03, 1.0))
        near = (y - horizon) / (1 - horizon)
        cover = _disc(size, float(rng.uniform(0, 1)), y, 0.03 + 0.09 * near, 0.004 + 0.008 * near)
        surface += cover[..., None] * 0.35 * (255 - surface)


def _lane(surface: np.ndarray, horizon: float, rng: np.random.Generator) -> None:
    """Dashes along the middle of the road."""
    size = len(surface)
    middle, thick = horizon + (1 - horizon) * 0.58, 0.012
    rows = slice(round((middle - thick) * size), round((middle + thick) * size))
    dashes = ((np.arange(size) / size + rng.random()) * 4.5) % 1 < 0.55
    surface[rows, dashes] = (238, 226, 170)


def _planks(surface: np.ndarray, horizon: float, rng: np.random.Generator) -> None:
    """Boards that grow wider towards the viewer, each of its own shade; a skirting at the wall."""
    size = len(surface)
    depth = ((np.arange(size) + 0.5) / size - horizon).clip(0) / (1 - horizon)
    board = (np.sqrt(depth) * 5).astype(int)
    shades = rng.uniform(-12, 12, 6)
    surface += shades[board.clip(0, 5)][:, None, None]
    seams = np.flatnonzero(np.diff(board)) + 1
    surface[seams] -= 28
    top = round(horizon * size)
    surface[top : top + max(1, size // 64)] = (232, 224, 212)


SKY_PAINTERS: dict[str, Callable[[np.ndarray, float, Sky, np.random.Generator], None]] = {
    "sun": _sun,
    "moon": _moon,
    "stars": _stars,
    "clouds": _clouds,
}
MARKS: dict[str, Callable[[np.ndarray, float, np.random.Generator], None]] = {
    "tufts": _tufts,
    "drifts": _drifts,
    "waves": _waves,
    "lane": _lane,
    "planks": _planks,
}
