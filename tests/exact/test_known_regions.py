"""Filling holes of correlated Gaussian data: the law of the hidden number, given the known one, is known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from undiffuse.core.conditioning import Conditioning
from undiffuse.core.random import normal
from undiffuse.diffusion.drive import drive
from undiffuse.diffusion.grid import Grid, make_grid
from undiffuse.diffusion.known import keep_known, repaint
from undiffuse.diffusion.level import Level
from undiffuse.diffusion.schedule import ScheduleSpec, build_schedule
from undiffuse.diffusion.solvers.table import ENTRIES, SOLVERS, SolverEntry

COUNT = 4000
MEAN = torch.tensor([0.5, -0.3], dtype=torch.float64)
COVARIANCE = torch.tensor([[1.0, 0.8], [0.8, 1.0]], dtype=torch.float64)
GIVEN = -1.5
EXACT_MEAN = -0.3 + 0.8 * (GIVEN - 0.5)  # -1.9
EXACT_VARIANCE = 1 - 0.8**2  # 0.36
KNOWN = torch.full((COUNT, 1, 1, 2), GIVEN, dtype=torch.float64)
HIDDEN = torch.tensor([0.0, 1.0]).view(1, 1, 1, 2).expand(COUNT, 1, 1, 2)
SCHEDULES = {"flow": ScheduleSpec(kind="flow"), "stable diffusion": ScheduleSpec(kind="scaled_linear")}
GRIDS = pytest.mark.parametrize("spec", SCHEDULES.values(), ids=SCHEDULES.keys())


def fresh(step: int) -> Tensor:
    return normal((COUNT, 1, 1, 2), "known", step).double()


def ideal(x: Tensor, level: Level, cond: Conditioning) -> Tensor:
    """E[x0 | x_t = x] of the joint law, by Bayes' rule for two normal laws."""
    pairs = x.flatten(1)
    spread = level.alpha**2 * COVARIANCE + level.sigma**2 * torch.eye(2, dtype=torch.float64)
    gain = torch.linalg.solve(spread, level.alpha * COVARIANCE)
    return (MEAN + (pairs - level.alpha * MEAN) @ gain).view_as(x)


def kept(solver: str, grid: Grid) -> Tensor:
    start = grid[0].alpha * KNOWN + grid[0].sigma * fresh(-1)
    held = keep_known(ideal, KNOWN, HIDDEN)
    return drive(SOLVERS[solver].function(start, grid, fresh), held, Conditioning())


def painted(grid: Grid, **options: int) -> Tensor:
    start = grid[0].alpha * KNOWN + grid[0].sigma * fresh(-1)
    return drive(repaint(start, grid, fresh, KNOWN, HIDDEN, **options), ideal, Conditioning())


def divergence(drawn: Tensor) -> float:
    """Of a normal law with the samples' mean and variance from the exact conditional one (Kullback & Leibler 1951)."""
    found = drawn.flatten(1)[:, 1]
    variance = found.var() / EXACT_VARIANCE
    return float(0.5 * (variance - 1 - variance.log() + (found.mean() - EXACT_MEAN) ** 2 / EXACT_VARIANCE))


@GRIDS
def test_resampling_comes_nearer_to_the_exact_conditional_law(spec: ScheduleSpec) -> None:
    grid = make_grid(build_schedule(spec), 20)
    once = divergence(painted(grid, resamples=1))
    often = divergence(painted(grid))
    oftener = divergence(painted(grid, resamples=12))

    assert oftener < often < 0.3 * once
    for solver in ("ddpm", "euler", "heun", "dpmpp_2m"):
        assert often < 0.3 * divergence(kept(solver, grid))


def test_with_many_steps_and_resamples_the_conditional_law_is_drawn() -> None:
    drawn = painted(make_grid(build_schedule(SCHEDULES["flow"]), 200), resamples=20).flatten(1)[:, 1]

    assert float(drawn.mean()) == pytest.approx(EXACT_MEAN, abs=0.05)
    assert float(drawn.var()) == pytest.approx(EXACT_VARIANCE, abs=0.05)


@GRIDS
def test_longer_jumps_settle_too(spec: ScheduleSpec) -> None:
    grid = make_grid(build_schedule(spec), 60)

    assert divergence(painted(grid, jump=4)) < 0.3 * divergence(painted(grid, jump=4, resamples=1))


@GRIDS
def test_a_known_region_moves_on_the_exact_path_from_its_noise(spec: ScheduleSpec) -> None:
    """The ODE keeps (x - alpha * known) / sigma; here in every query of a solver of second order."""
    grid = make_grid(build_schedule(spec), 7)
    start = grid[0].alpha * KNOWN + grid[0].sigma * fresh(-1)
    held = keep_known(ideal, KNOWN, HIDDEN)
    solver = SOLVERS["heun"].function(start, grid, fresh)
    query = next(solver)
    for _ in range(11):
        on_path = query.level.alpha * GIVEN + query.level.sigma * fresh(-1)[..., 0]
        torch.testing.assert_close(query.x[..., 0], on_path, rtol=1e-9, atol=1e-9)
        query = solver.send(held(query.x, query.level, Conditioning()))


def every_number(step: int) -> Tensor:
    return normal((3, 1, 1, 2), "to the bit", step)


@pytest.mark.parametrize("entry", [entry for entry in ENTRIES if entry.name != "ddim_inverse"], ids=lambda entry: entry.name)
@pytest.mark.parametrize("spec", SCHEDULES.values(), ids=SCHEDULES.keys())
@pytest.mark.parametrize("steps", [1, 2, 9, 25])
def test_a_known_region_ends_as_it_is_to_the_bit(entry: SolverEntry, spec: ScheduleSpec, steps: int) -> None:
    known = every_number(-5)
    hidden = HIDDEN[:3].float()

    def wild(x: Tensor, level: Level, cond: Conditioning) -> Tensor:
        return torch.sin(3 * x) + level.sigma

    grid = make_grid(build_schedule(spec), steps)
    found = drive(entry.function(every_number(-1), grid, every_number), keep_known(wild, known, hidden), Conditioning())
    assert torch.equal(found[..., 0], known[..., 0])
    assert not torch.equal(found[..., 1], known[..., 1])
