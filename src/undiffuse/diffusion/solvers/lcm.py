"""Steps of consistency models: clean, then noise anew (Song et al. 2023, algorithm 1; Luo et al. 2023)."""

from __future__ import annotations

from torch import Tensor

from undiffuse.diffusion.drive import Noise, Query, Solver
from undiffuse.diffusion.grid import Grid


def lcm(x: Tensor, grid: Grid, noise: Noise) -> Solver:
    """The clean estimate is noised afresh to every next level: for models that answer rightly in one step, such as LCM's."""
    for i, (now, nxt) in enumerate(grid.pairs()):
        x0 = yield Query(x, now, i, len(grid))
        x = nxt.alpha * x0
        if nxt.sigma > 0:
            x = x + nxt.sigma * noise(i)
    return x
