"""Heun's method (Karras et al. 2022, algorithms 1 and 2)."""

from __future__ import annotations

import math

from torch import Tensor

from undiffuse.diffusion.drive import Noise, Query, Solver
from undiffuse.diffusion.grid import Grid
from undiffuse.diffusion.prediction import to_noise
from undiffuse.diffusion.solvers.churn import churned


def heun(
    x: Tensor,
    grid: Grid,
    noise: Noise,
    s_churn: float = 0.0,
    s_tmin: float = 0.0,
    s_tmax: float = math.inf,
    s_noise: float = 1.0,
) -> Solver:
    """Average the slopes at both ends of a step; second order, two queries a step. `noise` is for `s_churn` above 0.

    Euler where one slope does not exist: into the clean level, and out of alpha = 0.
    """
    for i, (_, nxt) in enumerate(grid.pairs()):
        x, now = churned(x, grid, i, noise, s_churn, s_tmin, s_tmax, s_noise)
        x0 = yield Query(x, now, i, len(grid))
        slope = to_noise(x0, x, now)
        ahead = nxt.alpha * x0 + nxt.sigma * slope
        if nxt.sigma > 0 and now.alpha > 0:
            x0 = yield Query(ahead, nxt, i, len(grid))
            slope = 0.5 * (slope + to_noise(x0, ahead, nxt))
            ahead = nxt.alpha / now.alpha * (x - now.sigma * slope) + nxt.sigma * slope
        x = ahead
    return x
