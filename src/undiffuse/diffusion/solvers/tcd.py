"""Strategic stochastic sampling of trajectory consistency models (Zheng et al. 2024)."""

from __future__ import annotations

import math

from torch import Tensor

from undiffuse.core.errors import SpecError, explain
from undiffuse.diffusion.drive import Noise, Query, Solver
from undiffuse.diffusion.grid import Grid
from undiffuse.diffusion.prediction import to_noise
from undiffuse.diffusion.solvers.ratio import raised


def tcd(x: Tensor, grid: Grid, noise: Noise, gamma: float = 0.3) -> Solver:
    """Along the ODE to t = (1 - gamma) t_next, then noised up to the next level (Zheng et al. 2024, algorithm 4).

    `gamma` = 0 is DDIM; 1 goes by way of the schedule's cleanest level, nearly `lcm`.

    Raises:
        SpecError: when gamma is not in [0, 1].
    """
    if not 0 <= gamma <= 1:
        raise SpecError(explain(f"gamma = {gamma}", "0 (DDIM) to 1 (all noise afresh) is allowed"))
    for i, (now, nxt) in enumerate(grid.pairs()):
        x0 = yield Query(x, now, i, len(grid))
        if nxt.sigma == 0 or gamma == 0:
            x = nxt.alpha * x0 + nxt.sigma * to_noise(x0, x, now)
            continue
        low = grid.schedule.at(float(math.floor((1 - gamma) * float(nxt.t))))
        x = low.alpha * x0 + low.sigma * to_noise(x0, x, now)
        x = raised(x, low, nxt, noise(i))
    return x
