"""Solvers that look back begin at first order, and UniPC ends so: their true order shows where those steps are tiny."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch

from undiffuse.core.conditioning import Conditioning
from undiffuse.core.errors import SpecError
from undiffuse.diffusion.drive import drive
from undiffuse.diffusion.grid import Grid, make_grid
from undiffuse.diffusion.schedule import ScheduleSpec, build_schedule, level_at
from undiffuse.diffusion.solvers.adams import deis, lms, log_weights, power_weights
from undiffuse.diffusion.solvers.dpmpp_sde import dpmpp_3m_sde
from undiffuse.diffusion.solvers.unipc import uni_pc, uni_pc_bh2

X = torch.tensor([-2.0, -0.3, 0.4, 1.7], dtype=torch.float64)
RATIOS = [5.0, 6.1, 8.0, 9.2]


def graded(steps: int) -> Grid:
    """Even in log(sigma / alpha), but for steps of a share of 1 / n^2 and 1 / n of a step at both ends."""
    schedule = build_schedule(ScheduleSpec(kind="scaled_linear"))
    edges = [1 / steps**3, 1 / steps**2]
    places = sorted({*np.linspace(0, 1, steps + 1).tolist(), *edges, *(1 - edge for edge in edges)})
    high, low = math.log(10), math.log(0.05)
    return Grid(tuple(level_at(schedule, math.exp(high + (low - high) * place)) for place in places), schedule)


def error(gaussian, solver, grid: Grid) -> float:
    data = gaussian(0.3, 0.5)
    found = drive(solver(X, grid, None), data.denoise, Conditioning())
    return float((found - data.flow(X, grid[0], grid[-1])).abs().max())


CASES = {
    "lms 2": (partial(lms, order=2), 2),
    "lms 3": (partial(lms, order=3), 3),
    "lms 4": (lms, 4),
    "deis 2": (partial(deis, order=2), 2),
    "3m, its bend by half": (partial(dpmpp_3m_sde, eta=0.0), 2),
    "unipc 1 bh1": (partial(uni_pc, order=1), 2),
    "unipc 1 bh2": (partial(uni_pc_bh2, order=1), 2),
    "unipc 2 bh1": (partial(uni_pc, order=2), 3),
    "unipc 2 bh2": (partial(uni_pc_bh2, order=2), 3),
    "unipc 3": (uni_pc, 4),
}


@pytest.mark.parametrize(("solver", "order"), CASES.values(), ids=CASES.keys())
def test_orders_between_tiny_first_and_last_steps(gaussian, solver, order: int) -> None:
    """The corrector of UniPC adds one order to the estimates that it looks back on (Zhao et al. 2023, theorem 3.1)."""
    found = math.log2(error(gaussian, solver, graded(160)) / error(gaussian, solver, graded(320)))
    assert found == pytest.approx(order, abs=0.12)


@pytest.mark.parametrize("solver", [lms, deis, uni_pc, uni_pc_bh2], ids=["lms", "deis", "unipc", "unipc bh2"])
def test_looking_back_further_pays_at_twenty_steps(gaussian, solver) -> None:
    levels = make_grid(build_schedule(ScheduleSpec(kind="scaled_linear")), 21, "karras").levels[:-1]
    grid = Grid(levels, build_schedule(ScheduleSpec(kind="scaled_linear")))
    assert error(gaussian, solver, grid) < 0.5 * error(gaussian, partial(lms, order=1), grid)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
@pytest.mark.parametrize("power", [0, 1, 2, 3])
def test_weights_integrate_powers_of_the_ratio_exactly(count: int, power: int) -> None:
    weights = power_weights(RATIOS[:count], 4.2)
    found = sum(weight * ratio**power for weight, ratio in zip(weights, RATIOS, strict=False))
    exact = (4.2 ** (power + 1) - 5.0 ** (power + 1)) / (power + 1)
    if power < count:
        assert found == pytest.approx(exact, rel=1e-12)
    else:
        assert found != pytest.approx(exact, rel=1e-4)


@pytest.mark.parametrize("end", [4.2, 1.1, 4.9999], ids=["a step", "a long one", "a tiny one"])
@pytest.mark.parametrize("power", [0, 1, 2])
def test_weights_integrate_powers_of_its_log_exactly(power: int, end: float) -> None:
    """Antiderivatives of log(s)^k: s, s log s - s, s log^2 s - 2 s log s + 2 s."""

    def primitive(s: float) -> float:
        log = math.log(s)
        return s * (1.0, log - 1, log**2 - 2 * log + 2)[power]

    weights = log_weights(RATIOS[:3], end)
    found = sum(weight * math.log(ratio) ** power for weight, ratio in zip(weights, RATIOS, strict=False))
    assert found == pytest.approx(primitive(end) - primitive(5.0), rel=1e-8)


@pytest.mark.parametrize(("solver", "order"), [(lms, 0), (deis, 0), (uni_pc, 0), (uni_pc, 4), (uni_pc_bh2, 4)])
def test_orders_that_do_not_exist_are_refused(solver, order: int) -> None:
    with pytest.raises(SpecError, match=f"order = {order}; 1"):
        next(solver(X, graded(4), None, order=order))
