"""Holes that are filled without a seam."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from undiffuse.core.membrane import continued
from undiffuse.core.random import numpy_stream
from undiffuse.generation.seams import closed, without_seam


def picture(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels.astype(np.uint8))


def hole(width: int, height: int, box: tuple[int, int, int, int]) -> Image.Image:
    mask = Image.new("L", (width, height), 0)
    mask.paste(255, box)
    return mask


def test_a_plane_is_continued_as_a_plane() -> None:
    rows, columns = torch.meshgrid(torch.arange(40.0), torch.arange(56.0), indexing="ij")
    plane = torch.stack([2 * rows - columns, 0.5 * columns, torch.full_like(rows, 3.0)])
    known = torch.ones(40, 56, dtype=torch.bool)
    known[9:30, 13:44] = False
    found = continued(torch.where(known, plane, 1e3), known)
    assert torch.equal(found[:, known], plane[:, known])
    assert float((found - plane).abs().max()) < 0.03 * float(plane.abs().max())


def test_what_touches_an_edge_of_the_picture_is_continued_too() -> None:
    for known in (torch.zeros(7, 9, dtype=torch.bool), torch.zeros(1, 5, dtype=torch.bool)):
        known[0, 0] = True
        found = continued(torch.where(known, 4.0, -50.0)[None], known)
        torch.testing.assert_close(found, torch.full_like(found, 4.0))


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
    assert closed(ramp, everything).tobytes() == ramp.tobytes()


def test_a_mask_that_hides_everything_leaves_what_was_drawn() -> None:
    drawn = Image.new("RGB", (8, 6), (1, 2, 3))
    assert without_seam(drawn, Image.new("RGB", (8, 6), "white"), Image.new("L", (8, 6), 255)).tobytes() == drawn.tobytes()
