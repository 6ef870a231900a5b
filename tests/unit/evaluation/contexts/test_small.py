"""Enlargements whose figures are known."""

from __future__ import annotations

import pytest

from undiffuse.conditioners.small import SmallConditioner
from undiffuse.core.pictures import to_pixels
from undiffuse.evaluation.contexts.bench import LeftOut
from undiffuse.evaluation.contexts.small import enlarged, measure_small
from undiffuse.evaluation.reconstruction import PSNR_CAP

PART = SmallConditioner(4, 2, 0.3)


def test_the_original_is_better_in_both(bench, painter, values) -> None:
    draw = painter()
    told = values(measure_small(PART, bench(draw)).report)

    assert [told[f"small_better_{what}"] for what in ("psnr", "distance", "both")] == [1, 1, 1]
    assert told["small_psnr"] == PSNR_CAP > told["bicubic_psnr"] > 10
    assert told["small_distance"] == pytest.approx(0, abs=1e-6) and told["bicubic_distance"] > 0
    assert set(draw.asked[0]) == {"prompt", "small", "seed"} and draw.asked[0]["small"].size == (8, 8)


def test_bicubic_itself_is_not_better(bench, painter, values) -> None:
    told = values(measure_small(PART, bench(painter(lambda _, said: to_pixels(enlarged(said["small"], 32))))).report)

    assert [told[f"small_better_{what}"] for what in ("psnr", "distance", "both")] == [0, 0, 0]
    assert told["small_psnr"] == told["bicubic_psnr"] and told["small_distance"] == told["bicubic_distance"]


def test_better_by_one_is_not_better_by_both(bench, painter, values) -> None:
    def noisy(pixels, _):
        checks = pixels.new_tensor([[1.0, -1], [-1, 1]]).repeat(16, 16)
        return pixels * 0.9 + 0.8 * checks  # far in every pixel, but the mean of a cell is only scaled

    told = values(measure_small(PART, bench(painter(noisy))).report)
    assert told["small_better_psnr"] == 0 and told["small_better_distance"] == 1 and told["small_better_both"] == 0


def test_the_sheet_shows_small_pictures_in_squares(bench) -> None:
    shown = measure_small(PART, bench(count=3)).shown
    assert len(shown) == 3 and shown[0].given.size == (32, 32)
    assert len({shown[0].given.getpixel((x, y)) for x in range(4) for y in range(4)}) == 1


def test_nothing_to_shrink(bench, scenery) -> None:
    scenery.rows, scenery.images = scenery.rows[:28], scenery.images[:28]
    assert isinstance(measure_small(PART, bench()), LeftOut)
