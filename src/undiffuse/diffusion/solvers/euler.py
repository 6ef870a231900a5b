"""Euler's method, and its ancestral form (Karras et al. 2022; k-diffusion)."""

from __future__ import annotations

from torch import Tensor

from undiffuse.diffusion.drive import Noise, Query, Solver
from undiffuse.diffusion.grid import Grid
from undiffuse.diffusion.prediction import to_noise
from undiffuse.diffusion.solvers.ratio import remaining


def euler(x: Tensor, grid: Grid, noise: Noise) -> Solver:
    """d(x / alpha) / d(sigma / alpha) = eps, one step of Euler each; first order. `noise` is not used."""
    for i, (now, nxt) in enumerate(grid.pairs()):
        x0 = yield Query(x, now, i, len(grid))
        x = nxt.alpha * x0 + nxt.sigma * to_noise(x0, x, now)
    return x


def euler_ancestral(x: Tensor, grid: Grid, noise: Noise) -> Solver:
    """Euler down to below the next level, then fresh noise up to it; first order.

    With s = sigma / alpha, k-diffusion steps down to s_next^2 / s and up by s_next * sqrt(1 - (s_next / s)^2).
    """
    for i, (now, nxt) in enumerate(grid.pairs()):
        x0 = yield Query(x, now, i, len(grid))
        left = remaining(now, nxt)
        x = nxt.alpha * x0 + nxt.sigma * left * to_noise(x0, x, now)
        if nxt.sigma > 0:
            x = x + nxt.sigma * (1 - left**2) ** 0.5 * noise(i)
    return x
