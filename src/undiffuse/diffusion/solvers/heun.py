"""Heun's method (Karras et al. 2022, algorithm 1 without churn)."""

from __future__ import annotations

from torch import Tensor

from undiffuse.diffusion.drive import Noise, Query, Solver
from undiffuse.diffusion.grid import Grid
from undiffuse.diffusion.prediction import to_noise


def heun(x: Tensor, grid: Grid, noise: Noise) -> Solver:
    """Average the slopes at both ends of a step; second order, two queries a step. `noise` is not used.

    Euler where one slope does not exist: into the clean level, and out of alpha = 0.
    """
    for i, (now, nxt) in enumerate(grid.pairs()):
        x0 = yield Query(x, now, i, len(grid))
        slope = to_noise(x0, x, now)
        ahead = nxt.alpha * x0 + nxt.sigma * slope
        if nxt.sigma > 0 and now.alpha > 0:
            x0 = yield Query(ahead, nxt, i, len(grid))
            slope = 0.5 * (slope + to_noise(x0, ahead, nxt))
            ahead = nxt.alpha / now.alpha * (x - now.sigma * slope) + nxt.sigma * slope
        x = ahead
    return x
