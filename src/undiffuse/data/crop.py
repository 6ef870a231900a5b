"""`Cut`: how a picture becomes a square, the same for its pixels, its semantic map and its boxes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps

from undiffuse.data.annotations import UNSAID, Box, same_shape

LEAST_LEFT = 0.2  # a box of which less is still seen is dropped


@dataclass(frozen=True)
class Cut:
    """Mirrored or not, then a square of `size` pixels: cut about `centre` (0 to 1 each), or whole with borders if None."""

    size: int
    centre: tuple[float, float] | None = (0.5, 0.5)
    mirrored: bool = False

    def picture(self, picture: Image.Image) -> Image.Image:
        """The picture in RGB; borders are white."""
        return self._square(picture.convert("RGB"), Image.Resampling.LANCZOS, "white")

    def map(self, indices: Image.Image, size: tuple[int, int]) -> np.ndarray | None:
        """The map (size, size) uint8 of a picture of this size (width, height), by nearest neighbour; borders are 255.

        None when the map has another shape than its picture.
        """
        if not same_shape(indices.size, size):
            return None
        if indices.size != size:
            indices = indices.resize(size, Image.Resampling.NEAREST)
        return np.array(self._square(indices, Image.Resampling.NEAREST, UNSAID))

    def boxes(self, boxes: Iterable[Box], size: tuple[int, int]) -> list[Box]:
        """The boxes of a picture of this size (width, height) in the square: clipped to it, and gone where cut away."""
        left, top, width, height = self._window(size)
        shown = []
        for *sides, label in boxes:
            x0, y0, x1, y1 = _clipped(sides)
            if self.mirrored:
                x0, x1 = 1 - x1, 1 - x0
            moved = ((x0 - left) / width, (y0 - top) / height, (x1 - left) / width, (y1 - top) / height)
            kept = _clipped(moved)
            if kept[0] < kept[2] and kept[1] < kept[3] and _area(kept) >= LEAST_LEFT * _area(moved):
                shown.append([*kept, label])
        return shown

    def _square(self, picture: Image.Image, resampling: Image.Resampling, border: str | int) -> Image.Image:
        if self.mirrored:
            picture = ImageOps.mirror(picture)
        square = (self.size, self.size)
        if self.centre is None:
            return ImageOps.pad(picture, square, resampling, color=border)
        return ImageOps.fit(picture, square, resampling, centering=self.centre)

    def _window(self, size: tuple[int, int]) -> tuple[float, float, float, float]:
        """Left, top, width and height of what the square shows, in fractions of the mirrored picture's sides."""
        width, height = size
        if self.centre is not None:
            side = min(size)
            x, y = self.centre
            return (width - side) * x / width, (height - side) * y / height, side / width, side / height
        share_x, share_y = (round(self.size * side / max(size)) / self.size for side in size)  # of the square, as Pillow rounds
        starts = [round(self.size * (1 - share) / 2) / self.size / share for share in (share_x, share_y)]
        return -starts[0], -starts[1], 1 / share_x, 1 / share_y


def _clipped(sides: Iterable[float]) -> list[float]:
    return [min(max(float(side), 0.0), 1.0) for side in sides]


def _area(sides: Iterable[float]) -> float:
    left, top, right, bottom = sides
    return (right - left) * (bottom - top)
