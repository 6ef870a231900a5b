"""Brownian paths: independent normal increments, the same whatever is asked first and however a way is divided."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from undiffuse.core.conditioning import Conditioning
from undiffuse.core.random import PictureNoise, normal
from undiffuse.diffusion.brownian import BrownianPath
from undiffuse.diffusion.drive import drive
from undiffuse.diffusion.grid import Grid, make_grid
from undiffuse.diffusion.schedule import ScheduleSpec, build_schedule
from undiffuse.diffusion.solvers.dpmpp_sde import dpmpp_2m_sde, dpmpp_3m_sde, dpmpp_sde
from undiffuse.diffusion.solvers.euler import euler_ancestral

COUNT = 40_000
PLACES = [1e-7, 0.0047, 0.0048, 0.5, 0.9, 1.0, 1.3, 700.0, 1173.0]
SCHEDULES = {
    "stable diffusion": ScheduleSpec(kind="scaled_linear"),
    "zero terminal snr": ScheduleSpec(kind="scaled_linear", zero_terminal_snr=True),
    "flow": ScheduleSpec(kind="flow"),
}


def many(step: int) -> Tensor:
    return normal((COUNT,), "brownian", step).double()


def test_the_covariance_is_that_of_brownian_motion() -> None:
    """Cov(W(s), W(t)) = min(s, t); here of the standardised values, sqrt(min / max)."""
    path = BrownianPath(many)
    values = torch.stack([path.at(snr) / math.sqrt(snr) for snr in PLACES])
    found = values @ values.T / COUNT
    exact = torch.tensor([[math.sqrt(min(s, t) / max(s, t)) for t in PLACES] for s in PLACES], dtype=torch.float64)
    torch.testing.assert_close(found, exact, atol=4.5 * math.sqrt(2 / COUNT), rtol=0)


@pytest.mark.parametrize("spec", SCHEDULES.values(), ids=SCHEDULES.keys())
def test_increments_of_neighbouring_steps_are_standard_normal_and_independent(spec: ScheduleSpec) -> None:
    """Of twelve steps, and of twelve neighbours among a thousand, where a step is a few leaves of the tree."""
    schedule = build_schedule(spec)
    for steps in (13, 1000):
        path, grid = BrownianPath(many), make_grid(schedule, steps)
        middle = 0 if steps == 13 else 500
        drawn = torch.stack([path.between(grid[i], grid[i + 1]) for i in range(middle, middle + 12)])
        torch.testing.assert_close(
            drawn @ drawn.T / COUNT, torch.eye(12, dtype=torch.float64), atol=4.5 * math.sqrt(2 / COUNT), rtol=0
        )
        assert float(drawn.mean(1).abs().max()) < 4.5 / math.sqrt(COUNT)


@pytest.mark.parametrize("spec", SCHEDULES.values(), ids=SCHEDULES.keys())
def test_parts_sum_to_the_whole(spec: ScheduleSpec) -> None:
    schedule = build_schedule(spec)
    grid, path = make_grid(schedule, 9), BrownianPath(many)

    def increment(first: int, last: int) -> Tensor:
        length = grid[last].snr - grid[first].snr
        return BrownianPath(many).between(grid[first], grid[last]) * math.sqrt(length)

    whole = increment(0, 8)
    torch.testing.assert_close(sum(increment(i, i + 1) for i in range(8)), whole, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(increment(0, 3) + increment(3, 8), whole, rtol=1e-9, atol=1e-9)
    assert path.between(grid[0], grid[1]).isfinite().all()


def test_it_does_not_matter_what_was_asked_before() -> None:
    forwards, backwards = BrownianPath(many), BrownianPath(many)
    rising = [forwards.at(snr) for snr in PLACES]
    falling = [backwards.at(snr) for snr in reversed(PLACES)]
    assert all(torch.equal(one, other) for one, other in zip(rising, reversed(falling), strict=True))


def test_a_picture_s_path_is_its_own_wherever_it_stands() -> None:
    together = BrownianPath(PictureNoise(3, (0, 1, 2), (5,)))
    alone = BrownianPath(PictureNoise(3, (2,), (5,)))
    turned = BrownianPath(PictureNoise(3, (2, 0), (5,)))
    assert torch.equal(together.at(0.7)[2:], alone.at(0.7))
    assert torch.equal(together.at(0.7)[[2, 0]], turned.at(0.7))
    assert not torch.equal(alone.at(0.7), BrownianPath(PictureNoise(4, (2,), (5,))).at(0.7))


def test_no_draw_is_that_of_a_step_or_of_the_start() -> None:
    asked: list[int] = []

    def watched(step: int) -> Tensor:
        asked.append(step)
        return normal((2,), "watched", step)

    path = BrownianPath(watched)
    for snr in PLACES:
        path.at(snr)
    assert max(asked) < -1
    assert len(asked) < 17 * len(PLACES)  # neighbours share the upper part of the tree


@pytest.mark.parametrize("solver", [dpmpp_sde, dpmpp_2m_sde, dpmpp_3m_sde], ids=["sde", "2m sde", "3m sde"])
def test_with_more_steps_the_same_picture_is_approached(gaussian, solver) -> None:
    """Strong convergence: path by path, not only in law. Fresh noise for every step has nothing to converge to."""
    data = gaussian(0.3, 0.5)
    schedule = build_schedule(SCHEDULES["stable diffusion"])

    def small(step: int) -> Tensor:
        return normal((500,), "strong", step).double()

    def end(solver, steps: int) -> Tensor:
        levels = make_grid(schedule, steps + 1, "karras").levels[:-1]
        return drive(solver(levels[0].sigma * small(-1), Grid(levels, schedule), small), data.denoise, Conditioning())

    finest = end(solver, 320)
    distances = [float((end(solver, steps) - finest).square().mean().sqrt()) for steps in (10, 20, 40, 80)]
    assert all(later < 0.7 * earlier for earlier, later in pairwise(distances))
    assert distances[-1] < 0.02
    unlike = float((end(euler_ancestral, 80) - end(euler_ancestral, 320)).square().mean().sqrt())
    assert unlike > 0.4
