"""DPM-Solver-2 by the slope in the middle of a step (Karras et al. 2022, k-diffusion; after Lu et al. 2022)."""

from __future__ import annotations

from torch import Tensor

from undiffuse.diffusion.drive import Noise, Query, Solver
from undiffuse.diffusion.grid import Grid
from undiffuse.diffusion.prediction import to_noise
from undiffuse.diffusion.solvers.ratio import ancestral, halfway


def dpm_2(x: Tensor, grid: Grid, noise: Noise) -> Solver:
    """The midpoint rule, its middle that of log(sigma / alpha); second order, two queries a step. `noise` is not used.

    Euler into the clean level and out of alpha = 0.
    """
    return dpm_2_ancestral(x, grid, noise, eta=0.0)


def dpm_2_ancestral(x: Tensor, grid: Grid, noise: Noise, eta: float = 1.0, s_noise: float = 1.0) -> Solver:
    """The midpoint rule down to below the next level, then fresh noise up to it. `eta` = 0 is `dpm_2`."""
    for i, (now, nxt) in enumerate(grid.pairs()):
        x0 = yield Query(x, now, i, len(grid))
        slope = to_noise(x0, x, now)
        kept, fresh = ancestral(now, nxt, eta)
        if nxt.sigma > 0 and now.alpha > 0:
            middle = halfway(grid.schedule, now, nxt.ratio * kept)
            ahead = middle.alpha * x0 + middle.sigma * slope
            slope = to_noise((yield Query(ahead, middle, i, len(grid))), ahead, middle)
            x = nxt.alpha / now.alpha * (x - now.sigma * slope) + nxt.sigma * kept * slope
        else:
            x = nxt.alpha * x0 + nxt.sigma * kept * slope
        if nxt.sigma > 0 and fresh > 0:
            x = x + nxt.sigma * fresh * s_noise * noise(i)
    return x
