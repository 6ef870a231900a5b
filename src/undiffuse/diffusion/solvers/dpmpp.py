"""DPM-Solver++ (Lu et al. 2022b)."""

from __future__ import annotations

import math

from torch import Tensor

from undiffuse.diffusion.drive import Noise, Query, Solver
from undiffuse.diffusion.grid import Grid
from undiffuse.diffusion.solvers.ratio import remaining


def dpmpp_2m(x: Tensor, grid: Grid, noise: Noise) -> Solver:
    """Multistep DPM-Solver++ of second order (Lu et al. 2022b, algorithm 2). `noise` is not used.

    First order where there is no usable history: in the first step, behind alpha = 0, and into the clean level.
    """
    earlier: Tensor | None = None
    step_before = math.inf
    for i, (now, nxt) in enumerate(grid.pairs()):
        x0 = yield Query(x, now, i, len(grid))
        left = remaining(now, nxt)
        step = -math.log(left) if left > 0 else math.inf  # h, the step in log(alpha / sigma)
        estimate = x0
        if earlier is not None and math.isfinite(step) and math.isfinite(step_before):
            estimate = x0 + step / (2 * step_before) * (x0 - earlier)
        x = (nxt.sigma / now.sigma) * x + nxt.alpha * (1 - left) * estimate
        earlier, step_before = x0, step
    return x


def dpmpp_2m_sde(x: Tensor, grid: Grid, noise: Noise) -> Solver:
    """The stochastic form of `dpmpp_2m`, with the midpoint rule (Lu et al. 2022b, appendix D; k-diffusion).

    The step down is twice as long in log SNR as there is left to go, and fresh noise goes up again. First order where
    there is no usable history, as in `dpmpp_2m`.
    """
    earlier: Tensor | None = None
    step_before = math.inf
    for i, (now, nxt) in enumerate(grid.pairs()):
        x0 = yield Query(x, now, i, len(grid))
        left = remaining(now, nxt)
        step = -math.log(left) if left > 0 else math.inf
        estimate = x0
        if earlier is not None and math.isfinite(step) and math.isfinite(step_before):
            estimate = x0 + step / (2 * step_before) * (x0 - earlier)
        x = (nxt.sigma / now.sigma) * left * x + nxt.alpha * (1 - left**2) * estimate
        if nxt.sigma > 0:
            x = x + nxt.sigma * (1 - left**2) ** 0.5 * noise(i)
        earlier, step_before = x0, step
    return x
