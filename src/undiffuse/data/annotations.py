"""What may be said of a picture beside words: a semantic map, one class a pixel, and boxes."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from PIL import Image

from undiffuse.core.errors import DataError, explain

UNSAID = 255  # the index in a map where nothing is said
LOW_DEPTHS = {"L;2": 85, "L;4": 17}  # what Pillow multiplies the samples of shallow grey PNGs by
NEEDED = "a map holds one class index a pixel, in a grey or palette PNG"

Box = list[Any]
"""[left, top, right, bottom, label], the sides as fractions 0 to 1 of the picture's."""


def decode_map(data: bytes, name: str) -> Image.Image:
    """The class indices of a map file, as a picture in mode L; of palettes only the indices count.

    Raises:
        DataError: empty, damaged, or no picture of indices.
    """
    try:
        image = Image.open(io.BytesIO(data), formats=("PNG", "GIF", "BMP", "TIFF"))
        depth = image.tile[0].args if image.tile else ""
        mode = image.mode
        image.load()
    except Image.UnidentifiedImageError:
        raise DataError(explain(f"{name} is not a picture that can be read", NEEDED)) from None
    except Exception as error:  # decoders raise OSError, ValueError, SyntaxError, struct.error and more on damaged files
        raise DataError(explain(f"{name} is damaged ({error})", NEEDED, "replace or delete it")) from None
    if mode not in ("1", "L", "P"):
        raise DataError(explain(f"{name} is a picture in mode {mode}", NEEDED, "save the indices, not their colours"))
    indices = np.asarray(image).astype(np.uint8)
    return Image.fromarray(indices // LOW_DEPTHS.get(str(depth), 1))


def unsaid_beyond(indices: Image.Image, classes: int) -> Image.Image:
    """The map with 255, "nothing is said", for every index that names no class."""
    levels = np.asarray(indices)
    return Image.fromarray(np.where(levels < classes, levels, UNSAID).astype(np.uint8))


def is_box(value: Any) -> bool:
    """Whether this is [left, top, right, bottom, label] with finite numbers, the smaller ones first."""
    if not isinstance(value, list) or len(value) != 5 or not isinstance(value[4], str):
        return False
    sides = value[:4]
    if any(isinstance(side, bool) or not isinstance(side, int | float) or not math.isfinite(side) for side in sides):
        return False
    return sides[0] < sides[2] and sides[1] < sides[3]


def lies_inside(box: Box) -> bool:
    """Whether no side of the box is outside 0 to 1."""
    return min(box[:4]) >= 0 and max(box[:4]) <= 1


def same_shape(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether two sizes (width, height) have the same aspect, up to the rounding of their sides to pixels."""
    ratio = one[0] * other[1] / (one[1] * other[0])
    return abs(ratio - 1) <= 1 / min(*one, *other)


def names_of(value: Any) -> list[str]:
    """Class names from a list of them, or from how many there are: "class 0", "class 1" and so on."""
    if isinstance(value, list) and value:
        return [str(name) for name in value]
    if isinstance(value, int) and 0 < value <= UNSAID:
        return numbered(range(value))
    return []


def numbered(indices: Iterable[int]) -> list[str]:
    """Names for classes that have none."""
    return [f"class {index}" for index in indices]
