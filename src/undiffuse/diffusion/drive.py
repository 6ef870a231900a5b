"""Solvers ask, drivers answer.

A solver is a coroutine: it yields a `Query`, is sent the clean estimate, and returns the last x. It never sees
the network, so progress bars, previews, cancelling and batching over requests are different drivers.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace

from torch import Tensor

from undiffuse.core.conditioning import Conditioning
from undiffuse.diffusion.denoise import Denoise
from undiffuse.diffusion.level import Level


@dataclass(frozen=True)
class Query:
    """ "What is clean in x (B, ...) at this level?", asked in step `index` of `steps`."""

    x: Tensor
    level: Level
    index: int
    steps: int


@dataclass(frozen=True)
class Step:
    """A step that was taken: x (B, ...) after it, the last clean estimate that led there, and the level it left."""

    index: int
    steps: int
    x: Tensor
    x0: Tensor
    level: Level


Solver = Generator[Query, Tensor, Tensor]
Noise = Callable[[int], Tensor]
"""Standard normal noise (B, ...) for a step, the same whenever it is asked for."""


class Cursor:
    """The step that is being answered, for denoisers that must know it: `index` is that of the solver's last query."""

    def __init__(self) -> None:
        self.index = 0

    def follow(self, solver: Solver) -> Solver:
        """The solver, followed: whoever drives it must answer each query before sending on, as every driver does."""
        query = next(solver)
        while True:
            self.index = query.index
            try:
                query = solver.send((yield query))
            except StopIteration as end:
                return end.value


def counted(solver: Solver, before: int, steps: int) -> Solver:
    """The solver as a part of a longer run of `steps` steps, `before` of which are taken already."""
    query = next(solver)
    while True:
        try:
            query = solver.send((yield replace(query, index=before + query.index, steps=steps)))
        except StopIteration as end:
            return end.value


def drive(solver: Solver, denoise: Denoise, cond: Conditioning) -> Tensor:
    """Answer every query of a solver; returns its last x."""
    query = next(solver)
    while True:
        try:
            query = solver.send(denoise(query.x, query.level, cond))
        except StopIteration as end:
            return end.value


def steps(solver: Solver, denoise: Denoise, cond: Conditioning) -> Iterator[Step]:
    """The same, step by step; the x of the last step is the solver's result. Stopping is just stopping."""
    query = next(solver)
    left = query.level
    while True:
        x0 = denoise(query.x, query.level, cond)
        try:
            following = solver.send(x0)
        except StopIteration as end:
            yield Step(query.index, query.steps, end.value, x0, left)
            return
        if following.index != query.index:
            yield Step(query.index, query.steps, following.x, x0, left)
            left = following.level
        query = following
