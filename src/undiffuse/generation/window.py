"""`Window`: the part of a picture that is drawn anew, so that photographs of any size suit a model of one size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from undiffuse.core.errors import DataError, explain
from undiffuse.generation.seams import without_seam

Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels."""

MARGIN = 0.25  # of the mask's sides, to every side of it
HIDDEN = 255


@dataclass(frozen=True)
class Window:
    """A box in the picture's pixels, and the size (width, height) that it is drawn in.

    The box has the aspect of the size. Where the picture is too narrow for that it reaches beyond its edges; there
    the picture is continued by its last pixels, and the mask says that nothing is known.
    """

    box: Box
    size: tuple[int, int]

    @classmethod
    def around(cls, mask: Image.Image, size: tuple[int, int]) -> Window:
        """The window around everything that a mask (mode L) marks, with a margin that tells what is beside it.

        It is as large as `size` at least, so that nothing is enlarged without need, and as large as the picture allows
        at most, unless the mask itself reaches further.

        Raises:
            DataError: when the mask marks nothing.
        """
        marked = mask.getbbox()
        if marked is None:
            raise DataError(explain("a mask that is black all over", "white marks what is made anew"))
        left, top, right, bottom = marked
        needed = max((right - left) / size[0], (bottom - top) / size[1])
        allowed = min(mask.width / size[0], mask.height / size[1])
        scale = max(needed, min(max(1.0, needed * (1 + 2 * MARGIN)), allowed))
        width, height = (max(1, round(side * scale)) for side in size)
        x, y = _placed(left, right, width, mask.width), _placed(top, bottom, height, mask.height)
        return cls((x, y, x + width, y + height), size)

    def cut(self, picture: Image.Image) -> Image.Image:
        """What the window shows of an RGB picture, in the size that is drawn."""
        inside, shown = self._shown(picture.size)
        piece = np.asarray(picture.resize(_extent(shown), Image.Resampling.LANCZOS, inside))
        width, height = self.size
        beyond = ((shown[1], height - shown[3]), (shown[0], width - shown[2]), (0, 0))
        return Image.fromarray(np.pad(piece, beyond, mode="edge"))

    def cut_mask(self, mask: Image.Image) -> Image.Image:
        """The mask (mode L) in the size that is drawn: of the pixels that one shows the most hidden, 255 where it shows none.

        So nothing is hidden in the picture and known in what is drawn, which averaging would allow.
        """
        inside, shown = self._shown(mask.size)
        levels = np.asarray(mask.crop(inside))
        canvas = np.full((self.size[1], self.size[0]), HIDDEN, dtype=np.uint8)
        canvas[shown[1] : shown[3], shown[0] : shown[2]] = _most(_most(levels, shown[3] - shown[1]).T, shown[2] - shown[0]).T
        return Image.fromarray(canvas)

    def paste(self, original: Image.Image, drawn: Image.Image, mask: Image.Image, seam: bool = False) -> Image.Image:
        """The original with what was drawn in its place, blended by mask / 255: where that is 0 every byte stays as it is.

        Unless a `seam` is left, what was drawn is shifted in colour so that it meets what is around it.
        """
        inside, shown = self._shown(original.size)
        piece, hole = drawn.crop(shown).resize(_extent(inside), Image.Resampling.LANCZOS), mask.crop(inside)
        result = original.copy()
        piece = piece if seam else without_seam(piece, original.crop(inside), hole)
        result.paste(piece, inside[:2], hole)
        return result

    def _shown(self, size: tuple[int, int]) -> tuple[Box, Box]:
        """The part of the box that lies on a picture of this size, and where it is to be seen in what is drawn."""
        left, top, right, bottom = self.box
        inside = (max(left, 0), max(top, 0), min(right, size[0]), min(bottom, size[1]))
        columns = _stretch(inside[0] - left, inside[2] - left, self.size[0], right - left)
        rows = _stretch(inside[1] - top, inside[3] - top, self.size[1], bottom - top)
        return inside, (columns[0], rows[0], columns[1], rows[1])


def _extent(box: Box) -> tuple[int, int]:
    """Width and height of a box."""
    return box[2] - box[0], box[3] - box[1]


def _stretch(low: int, high: int, drawn: int, length: int) -> tuple[int, int]:
    """Which of the `drawn` pixels show low to high of `length`, any part of them."""
    return low * drawn // length, -(-high * drawn // length)


def _most(levels: np.ndarray, count: int) -> np.ndarray:
    """Rows (L, W) as `count` rows, each the maximum of all rows that it overlaps."""
    bounds = np.arange(count + 1) * len(levels)
    ranges = np.stack([bounds[:-1] // count, -(-bounds[1:] // count)], axis=1)  # from, to
    padded = np.concatenate([levels, levels[:1]])  # reduceat takes no index beyond the end
    return np.maximum.reduceat(padded, ranges.ravel(), axis=0)[::2]


def _placed(low: int, high: int, length: int, whole: int) -> int:
    """Where a stretch of `length` begins that has low to high at its centre, moved to lie in 0 to `whole` if it can."""
    if length >= whole:
        return (whole - length) // 2
    return min(max((low + high - length) // 2, 0), whole - length)
