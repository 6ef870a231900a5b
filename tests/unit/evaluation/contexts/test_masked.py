"""Fillings whose figures are known: the truth, Telea's own, and noise."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from PIL import Image

from undiffuse.conditioners.masked import MaskConditioner
from undiffuse.core.errors import DependencyError
from undiffuse.core.pictures import to_pixels
from undiffuse.core.random import normal
from undiffuse.evaluation.contexts import masked
from undiffuse.evaluation.contexts.bench import LeftOut
from undiffuse.evaluation.contexts.masked import around, hidden, hole, measure_masks, telea_fill

PART = MaskConditioner(4, 2)


def test_the_truth_is_always_nearer_than_a_plain_filling(bench, painter, values) -> None:
    draw = painter()
    told = values(measure_masks(PART, bench(draw)).report)

    assert told["mask_better_than_telea"] == 1
    assert told["mask_distance"] == pytest.approx(0, abs=1e-6) and told["telea_distance"] > 1e-3
    asked = draw.asked[0]
    assert (set(asked), asked["fill"]) == ({"prompt", "image", "mask", "fill", "seed"}, "learned")
    assert len(draw.asked) == 7 and len({said["seed"] for said in draw.asked}) == 7


def test_what_is_no_nearer_is_not_better(bench, painter, values) -> None:
    plain = telea_fill()
    told = values(measure_masks(PART, bench(painter(lambda _, said: to_pixels(plain(said["image"], said["mask"]))))).report)

    assert told["mask_better_than_telea"] == 0
    assert told["mask_distance"] == told["telea_distance"] > 0


def test_noise_in_the_hole_is_farther(bench, painter, values) -> None:
    def noisy(pixels, said):
        return torch.where(torch.from_numpy(np.array(said["mask"]) > 0), normal(pixels.shape, "test").clamp(-1, 1), pixels)

    told = values(measure_masks(PART, bench(painter(noisy))).report)
    assert told["mask_better_than_telea"] < 0.5 and told["mask_distance"] > told["telea_distance"]


def test_the_count_and_the_batch(bench, painter) -> None:
    one, many = painter(), painter()
    first = measure_masks(PART, bench(one, count=4, batch=1)).report
    again = measure_masks(PART, bench(many, count=4, batch=4)).report

    assert first.mask_distance.n == 4
    assert [said["seed"] for said in one.asked] == [said["seed"] for said in many.asked]
    assert first.to_json() == {name: pytest.approx(figure, abs=1e-6) for name, figure in again.to_json().items()}


def test_unreadable_pictures_are_told_and_left_out(bench, painter, scenery) -> None:
    skipped = []
    scenery.images[-1] = None
    found = measure_masks(PART, bench(painter(), skip=skipped.append))

    assert found.report.mask_distance.n == 6
    assert [problem.name for problem in skipped] == ["val-6"]
    scenery.images[-7:] = [None] * 7
    assert isinstance(measure_masks(PART, bench(painter(), skip=skipped.append)), LeftOut)


@pytest.mark.parametrize("size", [(16, 16), (32, 48), (4, 4)])
def test_a_tenth_to_a_half_is_hidden(size: tuple[int, int]) -> None:
    masks = [np.array(hole(size, 0, number)) for number in range(50)]

    assert all(mask.shape == size and set(np.unique(mask)) == {0, 255} for mask in masks)
    assert all(0.1 <= (mask > 0).mean() <= 0.5 for mask in masks)
    assert len({mask.tobytes() for mask in masks}) > 10
    assert (masks[3] == np.array(hole(size, 0, 3))).all()


def test_a_hole_that_cannot_be_drawn_is_the_middle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masked, "TRIES", 0)
    assert hole((8, 8), 0, 0).getbbox() == (2, 2, 6, 6)


def test_the_window_has_a_margin_and_stays_inside() -> None:
    mask = Image.new("L", (40, 20))
    mask.paste(255, (0, 8, 10, 12))
    assert around(mask) == pytest.approx((0, 0.3, 0.35, 0.7))


def test_a_hidden_part_is_grey() -> None:
    mask = Image.new("L", (4, 4))
    mask.paste(255, (0, 0, 2, 4))
    shown = hidden(Image.new("RGB", (4, 4), "red"), mask)
    assert (shown.getpixel((1, 1)), shown.getpixel((2, 1))) == ((128, 128, 128), (255, 0, 0))


def test_without_opencv_the_remedy_is_told_before_anything_is_drawn(bench, painter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    draw = painter()
    with pytest.raises(DependencyError, match=r'OpenCV is not installed.*pip install "undiffuse\[eval\]"'):
        measure_masks(PART, bench(draw))
    assert draw.asked == []
