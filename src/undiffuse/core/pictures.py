"""Pictures at the edges: PIL images and 8-bit arrays outside, float32 NCHW pixels in [-1, 1] inside."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from undiffuse.core.errors import DataError, explain

WHITE = (255, 255, 255)


def to_rgb(picture: Image.Image) -> Image.Image:
    """The picture upright and in RGB; what is transparent becomes white."""
    picture = ImageOps.exif_transpose(picture)
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    layered = picture.convert("RGBA")
    canvas = Image.new("RGBA", layered.size, (*WHITE, 255))
    return Image.alpha_composite(canvas, layered).convert("RGB")


def to_pixels(picture: Image.Image | np.ndarray) -> Tensor:
    """A PIL image, or a uint8 array (H, W, 3), as pixels (3, H, W) in [-1, 1].

    Raises:
        DataError: when an array has another shape or type.
    """
    array = np.asarray(to_rgb(picture)) if isinstance(picture, Image.Image) else picture
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
        given = f"an array of {array.dtype} with shape {array.shape}"
        raise DataError(explain(given, "a picture is uint8 (height, width, 3)", "convert it, or pass a PIL image"))
    return torch.from_numpy(array.astype(np.float32)).permute(2, 0, 1) / 127.5 - 1


def to_images(pixels: Tensor) -> list[Image.Image]:
    """Pixels (B, 3, H, W) in [-1, 1] as RGB images; values outside are cut off, the rest is rounded."""
    levels = ((pixels.detach().float().cpu() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return [Image.fromarray(array) for array in levels.permute(0, 2, 3, 1).numpy()]


def grid_image(images: Sequence[Image.Image], columns: int | None = None) -> Image.Image:
    """One sheet of pictures of equal size, row by row; as square as possible when `columns` is None.

    Raises:
        DataError: when there are no pictures.
    """
    if not images:
        raise DataError(explain("a sheet of no pictures", "at least one is needed"))
    columns = min(columns or math.ceil(math.sqrt(len(images))), len(images))
    width, height = images[0].size
    sheet = Image.new("RGB", (columns * width, math.ceil(len(images) / columns) * height), WHITE)
    for index, image in enumerate(images):
        sheet.paste(image, (index % columns * width, index // columns * height))
    return sheet
