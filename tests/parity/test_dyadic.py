"""The Brownian paths of k-diffusion against torchsde's own tree, which other programs draw from."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from undiffuse.core.errors import SpecError
from undiffuse.diffusion.dyadic import DyadicPath, dyadic_path
from undiffuse.diffusion.grid import Grid, make_grid
from undiffuse.diffusion.schedule import ScheduleSpec, build_schedule

torchsde = pytest.importorskip("torchsde")
SHAPE = (1, 3, 4, 8)
CLOSE = 2e-5


def draw(seed: int) -> Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))


def grid_of(spacing: str, steps: int) -> Grid:
    return make_grid(build_schedule(ScheduleSpec(kind="scaled_linear")), steps, spacing)


@pytest.mark.filterwarnings("ignore:Should have t")  # torchsde rounds its own ends and minds the difference
@pytest.mark.parametrize(("spacing", "steps", "seed"), [("karras", 7, 3), ("linspace", 4, 0), ("exponential", 20, 2**63 + 5)])
def test_steps_and_half_steps_are_those_of_the_tree(spacing: str, steps: int, seed: int) -> None:
    grid = grid_of(spacing, steps)
    ratios = [torch.tensor(level.ratio, dtype=torch.float32) for level in grid.levels[:-1]]
    theirs = torchsde.BrownianTree(ratios[-1], torch.zeros(SHAPE), ratios[0], entropy=seed)
    ours = dyadic_path(seed, grid, draw)

    for row in range(steps - 1):
        high, low = ratios[row], ratios[row + 1]
        middle = grid.between(row, 0.5)
        for end, level in ((torch.tensor(middle.ratio, dtype=torch.float32), middle), (low, grid[row + 1])):
            expected = -theirs(end, high) / (high - end).sqrt()
            torch.testing.assert_close(ours.between(grid[row], level), expected, rtol=0, atol=CLOSE)


def test_the_order_of_questions_changes_nothing() -> None:
    path, again = (DyadicPath(1, 0.03, 14.6, draw) for _ in range(2))
    places = [0.03, 14.6, 7.0, 3.123456, 0.030001, 11.0]

    forwards = [path.at(place) for place in places]
    backwards = [again.at(place) for place in reversed(places)]

    assert all(torch.equal(a, b) for a, b in zip(forwards, reversed(backwards), strict=True))


def test_variance_is_the_time_passed() -> None:
    places = (0.5, 2.0, 8.0)
    path = DyadicPath(7, 0.0, 9.0, many)
    values = torch.stack([path.at(place) for place in places])

    assert np.allclose(np.cov(values.numpy()), np.minimum.outer(places, places), rtol=0.05, atol=0.05)


def many(seed: int) -> Tensor:
    return torch.randn(20_000, generator=torch.Generator().manual_seed(seed))


def test_no_path_from_infinity() -> None:
    schedule = build_schedule(ScheduleSpec(kind="scaled_linear", zero_terminal_snr=True))
    with pytest.raises(SpecError, match="zero SNR"):
        dyadic_path(1, make_grid(schedule, 4, "trailing"), draw)
