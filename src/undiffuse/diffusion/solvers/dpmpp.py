"""DPM-Solver++ (Lu et al. 2022b), the deterministic forms and the ancestral one of k-diffusion."""

from __future__ import annotations

import math

from torch import Tensor

from undiffuse.diffusion.drive import Noise, Query, Solver
from undiffuse.diffusion.grid import Grid
from undiffuse.diffusion.solvers.ratio import ancestral, halfway, log_step, remaining, towards


def dpmpp_2m(x: Tensor, grid: Grid, noise: Noise) -> Solver:
    """Multistep DPM-Solver++ of second order (Lu et al. 2022b, algorithm 2). `noise` is not used.

    First order where there is no usable history: in the first step, behind alpha = 0, and into the clean level.
    """
    earlier: Tensor | None = None
    step_before = math.inf
    for i, (now, nxt) in enumerate(grid.pairs()):
        x0 = yield Query(x, now, i, len(grid))
        step = log_step(now, nxt)
        estimate = x0
        if earlier is not None and math.isfinite(step) and math.isfinite(step_before):
            estimate = x0 + step / (2 * step_before) * (x0 - earlier)
        x = (nxt.sigma / now.sigma) * x + nxt.alpha * (1 - remaining(now, nxt)) * estimate
        earlier, step_before = x0, step
    return x


def dpmpp_2s(x: Tensor, grid: Grid, noise: Noise) -> Solver:
    """Singlestep DPM-Solver++ of second order (Lu et al. 2022b, algorithm 1, r = 1/2), two queries a step.

    First order into the clean level and out of alpha = 0. `noise` is not used.
    """
    return dpmpp_2s_ancestral(x, grid, noise, eta=0.0)


def dpmpp_2s_ancestral(x: Tensor, grid: Grid, noise: Noise, eta: float = 1.0, s_noise: float = 1.0) -> Solver:
    """`dpmpp_2s` down to below the next level, then fresh noise up to it (k-diffusion). `eta` = 0 is `dpmpp_2s`."""
    for i, (now, nxt) in enumerate(grid.pairs()):
        x0 = yield Query(x, now, i, len(grid))
        kept, fresh = ancestral(now, nxt, eta)
        if nxt.sigma > 0 and now.alpha > 0:
            middle = halfway(grid.schedule, now, nxt.ratio * kept)
            x0 = yield Query(towards(x, x0, now, middle), middle, i, len(grid))
        x = towards(x, x0, now, nxt, kept)
        if nxt.sigma > 0 and fresh > 0:
            x = x + nxt.sigma * fresh * s_noise * noise(i)
    return x
