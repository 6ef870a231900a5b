"""DDIM backwards: it finds the noise that DDIM draws a picture from, ever closer with more steps."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

from undiffuse.core.conditioning import Conditioning
from undiffuse.diffusion.drive import drive
from undiffuse.diffusion.grid import CLEAN, make_grid
from undiffuse.diffusion.schedule import ScheduleSpec, build_schedule
from undiffuse.diffusion.solvers.ddim import ddim, ddim_inverse

PICTURE = torch.tensor([-0.8, 0.1, 0.5, 1.4], dtype=torch.float64)
GRIDS = pytest.mark.parametrize(
    ("spec", "spacing"),
    [
        (ScheduleSpec(kind="scaled_linear"), "trailing"),
        (ScheduleSpec(kind="scaled_linear"), "leading"),
        (ScheduleSpec(kind="scaled_linear", zero_terminal_snr=True), "trailing"),
        (ScheduleSpec(kind="flow"), "trailing"),
    ],
    ids=["trailing", "leading", "zero terminal snr", "flow"],
)


def errors(gaussian, spec: ScheduleSpec, spacing: str, steps: int) -> tuple[float, float]:
    """How far the found noise is from the exact one, and the picture drawn from it from the first picture."""
    data = gaussian(0.3, 0.5)
    grid = make_grid(build_schedule(spec), steps, spacing)
    found = drive(ddim_inverse(PICTURE, grid, None), data.denoise, Conditioning())
    again = drive(ddim(found, grid, None), data.denoise, Conditioning())
    exact = data.flow(PICTURE, CLEAN, grid[0])
    return float((found - exact).abs().max()), float((again - PICTURE).abs().max())


@GRIDS
def test_with_many_steps_the_noise_is_that_of_the_exact_ode(gaussian, spec: ScheduleSpec, spacing: str) -> None:
    coarse, fine = (errors(gaussian, spec, spacing, steps)[0] for steps in (20, 500))
    assert fine < 0.01
    assert coarse > 2 * fine


@GRIDS
def test_the_round_trip_comes_closer_with_the_number_of_steps(gaussian, spec: ScheduleSpec, spacing: str) -> None:
    distances = [errors(gaussian, spec, spacing, steps)[1] for steps in (125, 250, 500)]
    assert distances[-1] < 0.015
    for coarse, fine in pairwise(distances):
        assert math.log2(coarse / fine) > 0.7


def test_a_single_point_comes_back_exactly(gaussian) -> None:
    """Data without spread have one clean estimate; the picture itself must be that point."""
    data = gaussian(0.7, 0.0)
    grid = make_grid(build_schedule(ScheduleSpec(kind="scaled_linear")), 8, "trailing")
    picture = torch.tensor([0.7], dtype=torch.float64)
    found = drive(ddim_inverse(picture, grid, None), data.denoise, Conditioning())
    again = drive(ddim(found, grid, None), data.denoise, Conditioning())
    torch.testing.assert_close(again, picture, rtol=1e-12, atol=0)


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_inversion_asks_once_a_step_and_ends_at_the_first_level(gaussian, steps: int) -> None:
    data = gaussian(0.3, 0.5)
    grid = make_grid(build_schedule(ScheduleSpec(kind="scaled_linear")), steps, "trailing")
    asked: list[float] = []

    def denoise(x, level, cond):
        asked.append(level.sigma)
        return data.denoise(x, level, cond)

    found = drive(ddim_inverse(PICTURE, grid, None), denoise, Conditioning())
    assert len(asked) == len(grid)
    assert asked == sorted(asked)
    assert found.shape == PICTURE.shape
