"""What every solver keeps: its arguments, its precision, the independence of pictures, and nothing between calls."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor

from undiffuse.core.conditioning import Conditioning
from undiffuse.core.random import PictureNoise
from undiffuse.diffusion.drive import drive
from undiffuse.diffusion.grid import Grid, make_grid
from undiffuse.diffusion.level import Level
from undiffuse.diffusion.schedule import ScheduleSpec, build_schedule, level_at
from undiffuse.diffusion.solvers.table import ENTRIES, SolverEntry
from undiffuse.diffusion.solvers.table import SOLVERS as SOLVERS_BY_NAME

CHURNED = [
    replace(SOLVERS_BY_NAME[name], name=f"{name}, churned", function=partial(SOLVERS_BY_NAME[name].function, s_churn=2.0))
    for name in ("euler", "heun")
]
SOLVERS = pytest.mark.parametrize("entry", [*ENTRIES, *CHURNED], ids=lambda entry: entry.name)
SCHEDULES = {
    "variance preserving": ScheduleSpec(kind="scaled_linear"),
    "zero terminal snr": ScheduleSpec(kind="scaled_linear", zero_terminal_snr=True),
    "flow": ScheduleSpec(kind="flow"),
}
GRIDS = pytest.mark.parametrize("spec", SCHEDULES.values(), ids=SCHEDULES.keys())
SHAPE = (2, 3, 3)
ASKS_BETWEEN = {"dpm_2", "dpm_2_ancestral", "dpmpp_2s", "dpmpp_2s_ancestral", "dpmpp_sde", *(entry.name for entry in CHURNED)}


def grid_of(spec: ScheduleSpec) -> Grid:
    return make_grid(build_schedule(spec), 6, "trailing")


def denoise(x: Tensor, level: Level, cond: Conditioning) -> Tensor:
    """Plain arithmetic number by number, the same to the last bit wherever a number stands in its batch."""
    alpha, sigma = level.view(x)
    return (x - 0.2) * alpha / (1 + sigma * x * x)


def solve(entry: SolverEntry, spec: ScheduleSpec, pictures: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
    streams = PictureNoise(5, pictures, SHAPE)
    options = {"eta": 0.6} if entry.takes_eta else {}
    solver = entry.function(streams(-1).to(dtype), grid_of(spec), lambda step: streams(step).to(dtype), **options)
    return drive(solver, denoise, Conditioning())


@GRIDS
@SOLVERS
def test_a_picture_does_not_depend_on_the_batch_it_is_in(entry: SolverEntry, spec: ScheduleSpec) -> None:
    together = solve(entry, spec, (0, 1, 2, 3, 4))
    for row in range(5):
        assert torch.equal(together[row : row + 1], solve(entry, spec, (row,)))
    assert torch.equal(together[[4, 1]], solve(entry, spec, (4, 1)))


@GRIDS
@SOLVERS
def test_solvers_never_write_into_what_they_are_given(entry: SolverEntry, spec: ScheduleSpec) -> None:
    given: list[tuple[Tensor, Tensor]] = []

    def keep(value: Tensor) -> Tensor:
        given.append((value, value.clone()))
        return value

    streams = PictureNoise(5, (0, 1), SHAPE)
    solver = entry.function(keep(streams(-1)), grid_of(spec), lambda step: keep(streams(step)))
    query = next(solver)
    while True:
        keep(query.x)
        try:
            query = solver.send(keep(denoise(query.x, query.level, Conditioning())))
        except StopIteration as end:
            keep(end.value)
            break
    assert len(given) > 6
    assert all(torch.equal(value, copy) for value, copy in given)


@SOLVERS
def test_solvers_hold_nothing_between_runs_that_cross_each_other(entry: SolverEntry) -> None:
    """Two runs of one solver, asked in turn as a server does, end where each ends alone."""
    spec = SCHEDULES["flow"]
    expected = [solve(entry, spec, (picture,)) for picture in (0, 1)]
    runs = []
    for picture in (0, 1):
        streams = PictureNoise(5, (picture,), SHAPE)
        options = {"eta": 0.6} if entry.takes_eta else {}
        runs.append(entry.function(streams(-1), grid_of(spec), streams, **options))
    queries = [next(run) for run in runs]
    found: dict[int, Tensor] = {}
    while len(found) < 2:
        for i, run in enumerate(runs):
            try:
                queries[i] = run.send(denoise(queries[i].x, queries[i].level, Conditioning()))
            except StopIteration as end:
                found[i] = end.value
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])


@SOLVERS
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_precision_is_that_of_the_start(entry: SolverEntry, dtype: torch.dtype) -> None:
    assert solve(entry, SCHEDULES["variance preserving"], (0,), dtype).dtype == dtype


@SOLVERS
def test_no_solver_touches_the_global_generator(entry: SolverEntry) -> None:
    before = torch.get_rng_state()
    solve(entry, SCHEDULES["flow"], (0,))
    assert torch.equal(torch.get_rng_state(), before)


@GRIDS
@SOLVERS
def test_queries_count_the_steps_and_name_levels_of_the_schedule(entry: SolverEntry, spec: ScheduleSpec) -> None:
    grid = grid_of(spec)
    streams = PictureNoise(5, (0,), SHAPE)
    indices = []
    solver = entry.function(streams(-1), grid, streams)
    query = next(solver)
    while True:
        indices.append(query.index)
        assert query.steps == len(grid)
        on_grid = query.level in grid.levels[:-1]
        assert on_grid or entry.name in ASKS_BETWEEN
        if not on_grid:
            assert grid[len(grid) - 1].ratio / 100 < query.level.ratio < grid[0].ratio * (1.5 if entry in CHURNED else 1)
            assert 0 <= query.level.t <= grid.schedule.t_max
            same = level_at(grid.schedule, query.level.ratio)
            assert (query.level.alpha, query.level.sigma) == pytest.approx((same.alpha, same.sigma), rel=1e-9)
        try:
            query = solver.send(denoise(query.x, query.level, Conditioning()))
        except StopIteration:
            break
    assert indices == sorted(indices)
    assert set(indices) == set(range(len(grid)))


@GRIDS
@SOLVERS
@pytest.mark.parametrize(("spacing", "steps"), [("leading", 1), ("karras", 1), ("karras", 2), ("leading", 1000)])
def test_results_are_finite_with_one_step_and_with_a_thousand(
    entry: SolverEntry, spec: ScheduleSpec, spacing: str, steps: int
) -> None:
    grid = make_grid(build_schedule(spec), steps, spacing)
    streams = PictureNoise(5, (0,), (2,))
    found = drive(entry.function(streams(-1), grid, streams), denoise, Conditioning())
    assert found.isfinite().all()
