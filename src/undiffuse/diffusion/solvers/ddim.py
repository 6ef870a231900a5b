"""DDIM, forwards and backwards (Song et al. 2021a)."""

from __future__ import annotations

from torch import Tensor

from undiffuse.diffusion.drive import Noise, Query, Solver
from undiffuse.diffusion.grid import Grid
from undiffuse.diffusion.prediction import to_noise
from undiffuse.diffusion.solvers.ratio import posterior_noise


def ddim(x: Tensor, grid: Grid, noise: Noise, eta: float = 0.0) -> Solver:
    """Song et al. 2021a, eq. 12; first order. `eta` = 0 is the ODE, `eta` = 1 is DDPM."""
    for i, (now, nxt) in enumerate(grid.pairs()):
        x0 = yield Query(x, now, i, len(grid))
        fresh = eta * posterior_noise(now, nxt)
        kept = (nxt.sigma**2 - fresh**2) ** 0.5
        x = nxt.alpha * x0 + kept * to_noise(x0, x, now)
        if fresh > 0:
            x = x + fresh * noise(i)
    return x


def ddim_inverse(x: Tensor, grid: Grid, noise: Noise) -> Solver:
    """From a clean x to the noise that `ddim` would draw it from (Song et al. 2021a, section 4.3; Mokady et al. 2023).

    The clean x is taken for one at the least noisy level. `noise` is not used.
    """
    rising = grid.levels[-2::-1]
    for i, (now, nxt) in enumerate(zip(rising[:-1], rising[1:], strict=True)):
        x0 = yield Query(x, now, i, len(rising) - 1)
        x = nxt.alpha * x0 + nxt.sigma * to_noise(x0, x, now)
    return x
