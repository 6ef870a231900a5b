"""Data whose ideal denoiser and probability-flow solution are known in closed form."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from torch import Tensor

from undiffuse.core.conditioning import Conditioning
from undiffuse.diffusion.level import Level


@dataclass(frozen=True)
class Gaussian:
    """x0 ~ N(mean, deviation^2), every number on its own; levels are scalars."""

    mean: float
    deviation: float

    def spread(self, level: Level) -> float:
        """Standard deviation of x_t."""
        return math.sqrt((level.alpha * self.deviation) ** 2 + level.sigma**2)

    def denoise(self, x: Tensor, level: Level, cond: Conditioning) -> Tensor:
        """E[x0 | x_t = x], by Bayes' rule for two normal laws."""
        gain = level.alpha * self.deviation**2 / self.spread(level) ** 2
        return self.mean + gain * (x - level.alpha * self.mean)

    def flow(self, x: Tensor, start: Level, end: Level) -> Tensor:
        """Where the exact probability-flow ODE takes x from one level to another: it keeps the standard score."""
        return end.alpha * self.mean + self.spread(end) / self.spread(start) * (x - start.alpha * self.mean)


@pytest.fixture(scope="session")
def gaussian() -> Callable[[float, float], Gaussian]:
    """Makes the law of this mean and deviation."""
    return Gaussian
