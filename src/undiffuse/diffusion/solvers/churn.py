"""Churn: a little fresh noise before a step, to be taken away again with the rest (Karras et al. 2022, algorithm 2)."""

from __future__ import annotations

import math

from torch import Tensor

from undiffuse.core.errors import SpecError, explain
from undiffuse.diffusion.drive import Noise
from undiffuse.diffusion.grid import Grid
from undiffuse.diffusion.level import Level
from undiffuse.diffusion.schedule import level_at

MOST = math.sqrt(2) - 1  # never more new noise than there is


def churned(
    x: Tensor, grid: Grid, index: int, noise: Noise, s_churn: float, s_tmin: float, s_tmax: float, s_noise: float
) -> tuple[Tensor, Level]:
    """x and its level, raised by min(s_churn / steps, sqrt(2) - 1) where sigma / alpha is in [s_tmin, s_tmax].

    The names are those of Karras et al. 2022. Where alpha is 0 there is nothing but noise already.

    Raises:
        SpecError: when s_churn is negative.
    """
    if s_churn < 0:
        raise SpecError(explain(f"s_churn = {s_churn}", "0 (none) or more is allowed"))
    now = grid[index]
    ratio = now.ratio
    more = min(s_churn / len(grid), MOST)
    if more <= 0 or math.isinf(ratio) or not s_tmin <= ratio <= s_tmax:
        return x, now
    high = level_at(grid.schedule, ratio * (1 + more))
    added = math.sqrt(high.ratio**2 - ratio**2) * s_noise
    return high.alpha / now.alpha * x + high.alpha * added * noise(index), high
