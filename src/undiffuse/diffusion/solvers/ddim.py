"""DDIM, forwards and backwards (Song et al. 2021a)."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor

from undiffuse.core.errors import SpecError, explain
from undiffuse.diffusion.drive import Noise, Query, Solver
from undiffuse.diffusion.grid import Grid
from undiffuse.diffusion.prediction import to_noise
from undiffuse.diffusion.solvers.ratio import posterior_noise


def ddim(x: Tensor, grid: Grid, noise: Noise, eta: float = 0.0) -> Solver:
    """Song et al. 2021a, eq. 12; first order. `eta` = 0 is the ODE, `eta` = 1 is DDPM.

    Raises:
        SpecError: when eta is not in [0, 1].
    """
    if not 0 <= eta <= 1:
        raise SpecError(explain(f"eta = {eta}", "0 (the ODE) to 1 (DDPM) is allowed"))
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

    A clean picture has no slope: the first step takes that of the level it goes to. `noise` is not used.
    """
    rising = grid.levels[-2::-1]
    first = rising[0]
    x0 = yield Query(x, first, 0, len(grid))
    x = first.alpha * x + first.sigma * to_noise(x0, x, first)
    for i, (now, nxt) in enumerate(pairwise(rising), start=1):
        x0 = yield Query(x, now, i, len(grid))
        x = nxt.alpha * x0 + nxt.sigma * to_noise(x0, x, now)
    return x
