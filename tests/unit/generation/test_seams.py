"""Holes that are filled without a seam."""

from __future__ import annotations

import numpy as np
from PIL import Image

from undiffuse.core.random import numpy_stream
from undiffuse.generation.seams import closed, without_seam


def picture(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels.astype(np.uint8))


def hole(width: int, height: int, box: tuple[int, int, int, int]) -> Image.Image:
    mask = Image.new("L", (width, height), 0)
    mask.paste(255, box)
    return mask


def test_a_patch_that_is_off_by_a_colour_is_not_seen() -> None:
    rng = numpy_stream("seams")
    original = rng.integers(60, 180, (48, 64, 3))
    mask = hole(64, 48, (20, 10, 45, 40))
    drawn = picture(original + np.array([9, -6, 3]))
    assert np.array_equal(np.asarray(without_seam(drawn, picture(original), mask)), original)


def test_what_is_drawn_stays_but_for_a_smooth_shift() -> None:
    rng = numpy_stream("detail")
    original = np.full((64, 64, 3), 100)
    detail = rng.integers(-20, 20, (24, 24, 3))
    drawn = np.full((64, 64, 3), 110)
    drawn[20:44, 20:44] += detail
    found = np.asarray(without_seam(picture(drawn), picture(original), hole(64, 64, (20, 20, 44, 44))), dtype=int)
    assert np.abs(found[20:44, 20:44] - (100 + detail)).max() <= 1
    outside = found.copy()
    outside[20:44, 20:44] = 100
    assert (outside == 100).all()


def test_a_hole_is_closed_by_what_is_around_it() -> None:
    ramp = picture(np.broadcast_to(np.arange(50, 114)[None, :, None], (40, 64, 3)))
    mask, spoilt = hole(64, 40, (20, 8, 44, 40)), ramp.copy()
    spoilt.paste((255, 0, 0), (20, 8, 44, 40))
    assert np.abs(np.asarray(closed(spoilt, mask), dtype=int) - np.asarray(ramp, dtype=int)).max() <= 4
    everything = Image.new("L", ramp.size, 255)
    assert np.unique(closed(ramp, everything)).tolist() == [128]  # nothing to go by: grey


def test_a_mask_that_hides_everything_leaves_what_was_drawn() -> None:
    drawn = Image.new("RGB", (8, 6), (1, 2, 3))
    assert without_seam(drawn, Image.new("RGB", (8, 6), "white"), Image.new("L", (8, 6), 255)).tobytes() == drawn.tobytes()
