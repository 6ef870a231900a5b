"""Drivers agree, count the same steps, and stop by just stopping."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice, pairwise

import pytest
import torch
from torch import Tensor

from undiffuse.core.conditioning import Conditioning
from undiffuse.core.random import PictureNoise
from undiffuse.diffusion.drive import Solver, drive, steps
from undiffuse.diffusion.grid import make_grid
from undiffuse.diffusion.level import Level
from undiffuse.diffusion.schedule import ScheduleSpec, build_schedule
from undiffuse.diffusion.solvers.table import ENTRIES, SolverEntry

SOLVERS = pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
GRID = make_grid(build_schedule(ScheduleSpec(kind="scaled_linear")), 5, "trailing")


@dataclass
class Denoise:
    """A fixed function that keeps what it was asked and what it said."""

    asked: list[tuple[Tensor, Level]] = field(default_factory=list)
    said: list[Tensor] = field(default_factory=list)

    def __call__(self, x: Tensor, level: Level, cond: Conditioning) -> Tensor:
        self.asked.append((x, level))
        self.said.append(0.5 * x / (1 + x * x) + 0.1)
        return self.said[-1]


def solver_of(entry: SolverEntry) -> Solver:
    streams = PictureNoise(2, (0, 1), (4,))
    return entry.function(streams(-1), GRID, streams)


@SOLVERS
def test_the_last_step_holds_the_result_of_the_plain_driver(entry: SolverEntry) -> None:
    result = drive(solver_of(entry), Denoise(), Conditioning())
    taken = list(steps(solver_of(entry), Denoise(), Conditioning()))
    assert torch.equal(taken[-1].x, result)
    assert [step.index for step in taken] == list(range(len(GRID)))
    assert {step.steps for step in taken} == {len(GRID)}


@SOLVERS
def test_a_step_tells_the_level_it_left_and_the_estimate_that_led_on(entry: SolverEntry) -> None:
    denoise = Denoise()
    for step in steps(solver_of(entry), denoise, Conditioning()):
        assert step.x0 is denoise.said[-1]
        if entry.name == "ddim_inverse":  # climbs; its first step leaves the clean picture by the level it goes to
            assert step.level == GRID[len(GRID) - max(1, step.index)]
        else:
            assert step.level == GRID[step.index]


@SOLVERS
def test_the_next_step_starts_where_the_last_one_ended(entry: SolverEntry) -> None:
    denoise = Denoise()
    taken = []
    for step in steps(solver_of(entry), denoise, Conditioning()):
        taken.append((step, len(denoise.asked)))
    for (step, asked), _ in pairwise(taken):
        assert torch.equal(denoise.asked[asked][0], step.x)


@SOLVERS
def test_cancelling_is_just_stopping(entry: SolverEntry) -> None:
    denoise = Denoise()
    solver = solver_of(entry)
    run = steps(solver, denoise, Conditioning())
    first_two = list(islice(run, 2))
    asked = len(denoise.asked)
    del run
    assert [step.index for step in first_two] == [0, 1]
    assert len(denoise.asked) == asked
    solver.close()  # what the garbage collector does too; a solver holds nothing that must be let go
    with pytest.raises(StopIteration):
        next(solver)


@SOLVERS
def test_a_failing_denoiser_fails_the_run_with_its_own_error(entry: SolverEntry) -> None:
    def broken(x: Tensor, level: Level, cond: Conditioning) -> Tensor:
        raise MemoryError("no room")

    with pytest.raises(MemoryError, match="no room"):
        drive(solver_of(entry), broken, Conditioning())
    with pytest.raises(MemoryError, match="no room"):
        list(steps(solver_of(entry), broken, Conditioning()))
