"""Ancestral sampling of DDPM (Ho et al. 2020)."""

from __future__ import annotations

from torch import Tensor

from undiffuse.diffusion.drive import Noise, Query, Solver
from undiffuse.diffusion.grid import Grid
from undiffuse.diffusion.solvers.ratio import posterior_noise, remaining


def ddpm(x: Tensor, grid: Grid, noise: Noise) -> Solver:
    """Draw from the posterior q(x_next | x_now, x0) (Ho et al. 2020, eq. 6 and 7); first order."""
    for i, (now, nxt) in enumerate(grid.pairs()):
        x0 = yield Query(x, now, i, len(grid))
        left = remaining(now, nxt)
        x = (left * nxt.sigma / now.sigma) * x + nxt.alpha * (1 - left**2) * x0
        fresh = posterior_noise(now, nxt)
        if fresh > 0:
            x = x + fresh * noise(i)
    return x
