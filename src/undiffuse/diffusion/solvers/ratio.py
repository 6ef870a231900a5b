"""What several solvers need to know about two neighbouring levels."""

from __future__ import annotations

from undiffuse.diffusion.level import Level


def remaining(now: Level, nxt: Level) -> float:
    """How much of the noise-to-signal ratio is left: (sigma / alpha) of the next over that of now, in [0, 1].

    Finite also where alpha is 0. It is exp(-h) for the log-SNR step h of Lu et al. 2022.
    """
    return (nxt.sigma * now.alpha) / (nxt.alpha * now.sigma)  # type: ignore[return-value]


def posterior_noise(now: Level, nxt: Level) -> float:
    """Standard deviation of q(x_next | x_now, x0) (Ho et al. 2020, eq. 7, for any alpha and sigma)."""
    return nxt.sigma * (1 - remaining(now, nxt) ** 2) ** 0.5  # type: ignore[return-value]
