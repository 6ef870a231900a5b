"""Pixels are float32 NCHW in [-1, 1] inside and 8 bits at the edges, and the way there and back loses nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from undiffuse.core.errors import DataError
from undiffuse.core.pictures import grid_image, to_images, to_pixels, to_rgb


def test_every_8_bit_value_survives_the_round_trip() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    picture = Image.fromarray(np.stack([levels, levels[::-1], levels.T], axis=-1))

    pixels = to_pixels(picture)

    assert pixels.shape == (3, 16, 16) and pixels.dtype == torch.float32
    assert pixels.min() == -1 and pixels.max() == 1
    assert to_images(pixels[None])[0].tobytes() == picture.tobytes()


def test_arrays_and_images_give_equal_pixels() -> None:
    array = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)

    assert torch.equal(to_pixels(array), to_pixels(Image.fromarray(array)))


def test_values_outside_are_cut_off() -> None:
    image = to_images(torch.tensor([-3.0, 0.0, 9.0]).view(1, 3, 1, 1))[0]

    assert image.getpixel((0, 0)) == (0, 128, 255)


def test_what_is_transparent_becomes_white() -> None:
    picture = Image.new("RGBA", (2, 1), (255, 0, 0, 255))
    picture.putpixel((1, 0), (0, 0, 0, 0))

    assert to_rgb(picture).getpixel((0, 0)) == (255, 0, 0)
    assert to_rgb(picture).getpixel((1, 0)) == (255, 255, 255)


@pytest.mark.parametrize("array", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((4, 4, 4), np.uint8)])
def test_other_arrays_are_refused(array: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"a picture is uint8 \(height, width, 3\)"):
        to_pixels(array)


def test_a_sheet_reads_row_by_row() -> None:
    colours = [(10 * k, 0, 0) for k in range(5)]
    sheet = grid_image([Image.new("RGB", (4, 2), colour) for colour in colours], columns=3)

    assert sheet.size == (12, 4)
    assert [sheet.getpixel((4 * (k % 3), 2 * (k // 3))) for k in range(5)] == colours
    assert sheet.getpixel((11, 3)) == (255, 255, 255)


def test_a_sheet_is_square_by_default_and_never_empty() -> None:
    assert grid_image([Image.new("RGB", (2, 2))] * 4).size == (4, 4)
    with pytest.raises(DataError, match="no pictures"):
        grid_image([])
