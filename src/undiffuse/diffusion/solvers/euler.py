"""Euler's method, and its ancestral form (Karras et al. 2022; k-diffusion)."""

from __future__ import annotations

import math

from torch import Tensor

from undiffuse.diffusion.drive import Noise, Query, Solver
from undiffuse.diffusion.grid import Grid
from undiffuse.diffusion.prediction import to_noise
from undiffuse.diffusion.solvers.churn import churned
from undiffuse.diffusion.solvers.ratio import ancestral


def euler(
    x: Tensor,
    grid: Grid,
    noise: Noise,
    s_churn: float = 0.0,
    s_tmin: float = 0.0,
    s_tmax: float = math.inf,
    s_noise: float = 1.0,
) -> Solver:
    """d(x / alpha) / d(sigma / alpha) = eps, one step of Euler each; first order. `noise` is for `s_churn` above 0."""
    for i, (_, nxt) in enumerate(grid.pairs()):
        x, now = churned(x, grid, i, noise, s_churn, s_tmin, s_tmax, s_noise)
        x0 = yield Query(x, now, i, len(grid))
        x = nxt.alpha * x0 + nxt.sigma * to_noise(x0, x, now)
    return x


def euler_ancestral(x: Tensor, grid: Grid, noise: Noise, eta: float = 1.0, s_noise: float = 1.0) -> Solver:
    """Euler down to below the next level, then fresh noise up to it; first order.

    With s = sigma / alpha and eta = 1, k-diffusion steps down to s_next^2 / s and up by s_next * sqrt(1 - (s_next / s)^2).
    """
    for i, (now, nxt) in enumerate(grid.pairs()):
        x0 = yield Query(x, now, i, len(grid))
        kept, fresh = ancestral(now, nxt, eta)
        x = nxt.alpha * x0 + nxt.sigma * kept * to_noise(x0, x, now)
        if nxt.sigma > 0 and fresh > 0:
            x = x + nxt.sigma * fresh * s_noise * noise(i)
    return x
