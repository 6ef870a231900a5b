"""PSNR and SSIM against closed forms, and the report on round trips that are known."""

from __future__ import annotations

import math

import pytest
import torch
from PIL import Image

from undiffuse.core.errors import DataError
from undiffuse.evaluation.reconstruction import evaluate_autoencoder, psnr, ssim


def random_pictures(count: int = 2) -> torch.Tensor:
    return torch.rand(count, 3, 24, 24, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize("step", [1.0, 0.5, 0.01])
def test_psnr_of_a_constant_difference(step: float) -> None:
    a = torch.zeros(1, 3, 4, 4)

    assert psnr(a, a + step).item() == pytest.approx(20 * math.log10(2 / step), abs=1e-4)


def test_psnr_of_black_and_white_is_zero_and_of_equals_is_capped() -> None:
    white = torch.ones(1, 3, 4, 4)

    assert psnr(white, -white).item() == 0
    assert psnr(white, white).item() == 100


def test_psnr_is_of_each_picture_apart() -> None:
    a = torch.zeros(2, 3, 4, 4)
    b = torch.stack([a[0], a[0] + 2])

    assert psnr(a, b).tolist() == [100, 0]


def test_ssim_of_equal_pictures_is_one() -> None:
    assert ssim(random_pictures(), random_pictures()).tolist() == pytest.approx([1, 1])


def test_ssim_of_flat_pictures_is_the_luminance_term() -> None:
    a, b = 0.25, 0.75
    flat = [torch.full((1, 3, 16, 16), 2 * level - 1) for level in (a, b)]

    assert ssim(*flat).item() == pytest.approx((2 * a * b + 1e-4) / (a**2 + b**2 + 1e-4), abs=1e-6)


def test_ssim_of_a_scaled_contrast_is_the_contrast_term() -> None:
    # A checkerboard of period 2: every window has the same mean and variance, up to the window's own asymmetry.
    board = ((torch.arange(24)[:, None] + torch.arange(24)) % 2 * 2 - 1).float().expand(1, 3, 24, 24)
    strong, weak = 0.4 * board, 0.2 * board
    variance, part = 0.2**2, 0.5

    expected = (2 * part * variance + 0.03**2) / (variance * (1 + part**2) + 0.03**2)
    assert ssim(strong, weak).item() == pytest.approx(expected, abs=1e-3)


def test_ssim_is_symmetric_and_negative_for_a_negative() -> None:
    a, b = random_pictures(), random_pictures().flip(-1)

    assert torch.allclose(ssim(a, b), ssim(b, a))
    assert (ssim(a, -a) < -0.5).all()


def test_ssim_knows_luma_only() -> None:
    grey = random_pictures(1).mean(dim=1, keepdim=True).expand(1, 3, 24, 24) * 0.5
    tinted = grey.clone()
    tinted[:, 0] += 0.114 / 0.299 * 0.3
    tinted[:, 2] -= 0.3

    assert ssim(grey, tinted).item() == pytest.approx(1, abs=1e-6)
    assert psnr(grey, tinted).item() < 25


def test_a_perfect_round_trip(noise, mean_colour) -> None:
    report = evaluate_autoencoder(noise, lambda pixels: pixels, mean_colour, size=24)

    assert (report.psnr.value, report.psnr.n) == (100, 6)
    assert report.ssim.value == pytest.approx(1)
    assert report.feature_distance.value == pytest.approx(0, abs=1e-6)


def test_a_round_trip_with_a_known_fault(gallery, mean_colour) -> None:
    greys = gallery([Image.new("RGB", (16, 16), (level,) * 3) for level in (51, 102, 153)])

    report = evaluate_autoencoder(greys, lambda pixels: pixels + 0.2, mean_colour, size=16)

    assert report.psnr.value == pytest.approx(20)
    assert report.psnr.low == pytest.approx(20) and report.psnr.high == pytest.approx(20)
    assert 0.5 < report.ssim.value < 1


def test_opposite_features_are_two_apart(gallery, mean_colour) -> None:
    report = evaluate_autoencoder(gallery([Image.new("RGB", (16, 16), "red")]), lambda x: -x, mean_colour, size=16)

    assert report.feature_distance.value == pytest.approx(2)


def test_rebuilt_pictures_are_clipped_before_they_are_compared(gallery, mean_colour) -> None:
    white = gallery([Image.new("RGB", (16, 16), "white")])

    assert evaluate_autoencoder(white, lambda x: x + 5, mean_colour, size=16).psnr.value == 100


def test_the_batch_changes_no_figure_and_progress_reaches_the_end(noise, mean_colour) -> None:
    told: list[tuple[int, int, str]] = []

    def measured(batch: int):
        shrink = lambda pixels: pixels * 0.9  # noqa: E731
        return evaluate_autoencoder(
            noise, shrink, mean_colour, size=24, count=5, batch=batch, progress=lambda *step: told.append(step)
        )

    alone, together = measured(1), measured(4)

    assert alone.to_json() == {name: pytest.approx(figure) for name, figure in together.to_json().items()}
    assert told[-2:] == [(4, 5, "round trips"), (5, 5, "round trips")]


def test_the_seed_chooses_the_pictures(gallery, mean_colour) -> None:
    greys = gallery([Image.new("RGB", (16, 16), (10 * level,) * 3) for level in range(1, 25)])

    def chosen(seed: int) -> float:
        return evaluate_autoencoder(greys, torch.zeros_like, mean_colour, size=16, count=3, seed=seed).psnr.value

    assert chosen(0) == chosen(0)
    assert len({chosen(seed) for seed in range(4)}) > 1


def test_unreadable_pictures_are_left_out_of_n(gallery, mean_colour) -> None:
    told = []
    mixed = gallery([Image.new("RGB", (16, 16)), None, Image.new("RGB", (16, 16))])

    report = evaluate_autoencoder(mixed, lambda x: x, mean_colour, size=16, skip=told.append)

    assert report.psnr.n == 2
    assert [problem.name for problem in told] == ["picture 1"]


def test_an_empty_set_is_refused(gallery, mean_colour) -> None:
    with pytest.raises(DataError, match="none of the 0 pictures"):
        evaluate_autoencoder(gallery([]), lambda x: x, mean_colour, size=16)
