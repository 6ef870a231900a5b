"""Restart sampling (Xu et al. 2023): go back up by fresh noise and down again, to forget errors of the first descent."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

from torch import Tensor

from undiffuse.core.errors import SpecError, explain
from undiffuse.diffusion.drive import Noise, Query, Solver
from undiffuse.diffusion.grid import Grid
from undiffuse.diffusion.prediction import to_noise
from undiffuse.diffusion.solvers.ratio import along, raised


def restart(
    x: Tensor, grid: Grid, noise: Noise, times: int = 1, low: float = 0.1, high: float = 2.0, s_noise: float = 1.0
) -> Solver:
    """Heun's method; the stretch of the grid between two ratios is gone `times` times more (Xu et al. 2023, algorithm 1).

    A query's `index` tells the furthest step so far. Where no level lies between the two ratios it is plain Heun.

    Args:
        x: what to start from (B, ...).
        grid: the levels; the stretch goes over its own.
        noise: asked with a number of its own for every restart.
        times: how often the way is gone again.
        low: sigma / alpha from which to go back, about; the nearest level is taken.
        high: sigma / alpha to go back to, about.
        s_noise: a factor on fresh noise.

    Raises:
        SpecError: when `times` is negative or `low` not below `high`.
    """
    if times < 0 or not 0 < low < high:
        allowed = "times of 0 or more and 0 < low < high are allowed"
        raise SpecError(explain(f"times = {times}, low = {low}, high = {high}", allowed))
    draws = count()
    furthest, row_before = 0, -1
    for row in _way(grid, times, low, high):
        now, nxt = grid[row], grid[row + 1]
        if row <= row_before:
            x = raised(x, grid[row_before + 1], now, s_noise * noise(next(draws)))
        furthest, row_before = max(furthest, row), row
        x0 = yield Query(x, now, furthest, len(grid))
        slope = to_noise(x0, x, now)
        ahead = nxt.alpha * x0 + nxt.sigma * slope
        if nxt.sigma > 0 and now.alpha > 0:
            x0 = yield Query(ahead, nxt, furthest, len(grid))
            ahead = along(x, 0.5 * (slope + to_noise(x0, ahead, nxt)), now, nxt)
        x = ahead
    return x


def _way(grid: Grid, times: int, low: float, high: float) -> Iterator[int]:
    """The rows in the order of their steps."""
    dirty = [level.ratio for level in grid.levels[:-1]]
    start, end = (min(range(len(dirty)), key=lambda row, to=to: abs(dirty[row] - to)) for to in (high, low))
    for row in range(len(grid)):
        yield row
        if row + 1 == end:
            for _ in range(times):
                yield from range(start, end)
