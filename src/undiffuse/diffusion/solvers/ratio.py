"""What several solvers need to know about two neighbouring levels."""

from __future__ import annotations

import math

from torch import Tensor

from undiffuse.core.errors import SpecError, explain
from undiffuse.diffusion.level import Level
from undiffuse.diffusion.schedule import Schedule, level_at


def remaining(now: Level, nxt: Level) -> float:
    """How much of the noise-to-signal ratio is left: (sigma / alpha) of the next over that of now, in [0, 1].

    Finite also where alpha is 0. It is exp(-h) for the log-SNR step h of Lu et al. 2022.
    """
    return (nxt.sigma * now.alpha) / (nxt.alpha * now.sigma)  # type: ignore[return-value]


def log_step(now: Level, nxt: Level) -> float:
    """h, the step in log(alpha / sigma) (Lu et al. 2022); infinite out of alpha = 0 and into the clean level."""
    left = remaining(now, nxt)
    return -math.log(left) if left > 0 else math.inf


def posterior_noise(now: Level, nxt: Level) -> float:
    """Standard deviation of q(x_next | x_now, x0) (Ho et al. 2020, eq. 7, for any alpha and sigma)."""
    return nxt.sigma * (1 - remaining(now, nxt) ** 2) ** 0.5  # type: ignore[return-value]


def ancestral(now: Level, nxt: Level, eta: float) -> tuple[float, float]:
    """Shares of the next level's sigma that a step keeps and that it adds afresh; the squares sum to 1.

    With eta = 1 it is what DDPM adds, with 0 there is nothing fresh. k-diffusion's sigma_down and sigma_up are these
    times the next sigma / alpha.

    Raises:
        SpecError: when eta is not in [0, 1].
    """
    if not 0 <= eta <= 1:
        raise SpecError(explain(f"eta = {eta}", "0 (the ODE) to 1 (as much as DDPM) is allowed"))
    left = remaining(now, nxt)
    return (1 - eta**2 + (eta * left) ** 2) ** 0.5, eta * (1 - left**2) ** 0.5


def towards(x: Tensor, x0: Tensor, now: Level, nxt: Level, kept: float = 1.0) -> Tensor:
    """The exact ODE step to the next level for a constant x0, (B, ...), with only a share `kept` of its noise."""
    left = remaining(now, nxt) * kept
    return (nxt.sigma / now.sigma) * kept * x + nxt.alpha * (1 - left) * x0


def along(x: Tensor, slope: Tensor, now: Level, nxt: Level) -> Tensor:
    """The straight step d(x / alpha) = slope d(sigma / alpha), (B, ...). Not out of alpha = 0."""
    return nxt.alpha / now.alpha * (x - now.sigma * slope) + nxt.sigma * slope


def raised(x: Tensor, low: Level, high: Level, noise: Tensor) -> Tensor:
    """x at a level with more noise: the forward process q(x_high | x_low) in one step."""
    kept = high.alpha / low.alpha
    added = max(high.sigma**2 - (kept * low.sigma) ** 2, 0.0) ** 0.5  # type: ignore[type-var]  # a grid's levels are scalars
    return kept * x + added * noise


def halfway(schedule: Schedule, now: Level, ratio: float) -> Level:
    """The level in the geometric middle between that of `now` and a ratio."""
    return level_at(schedule, math.sqrt(now.ratio * ratio))
