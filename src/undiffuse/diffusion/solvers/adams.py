"""Multistep solvers on slopes, after Adams and Bashforth: earlier slopes foretell how the present one will change.

In y = x / alpha and s = sigma / alpha the ODE is dy/ds = eps. Into the clean level they all go by the present slope
alone, which leads to the last clean estimate itself; so do they out of alpha = 0, where s is infinite.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from torch import Tensor

from undiffuse.core.errors import SpecError, explain
from undiffuse.diffusion.drive import Noise, Query, Solver
from undiffuse.diffusion.grid import Grid
from undiffuse.diffusion.prediction import to_noise
from undiffuse.diffusion.solvers.ratio import along

EVEN = ((1.0,), (3 / 2, -1 / 2), (23 / 12, -16 / 12, 5 / 12), (55 / 24, -59 / 24, 37 / 24, -9 / 24))
"""Adams-Bashforth weights for even steps, latest slope first."""
SERIES_BELOW = 1.0
TERMS = 20


def plms(x: Tensor, grid: Grid, noise: Noise) -> Solver:
    """Pseudo linear multistep (Liu et al. 2022, eq. 9 and 12, as CompVis begins it). `noise` is not used.

    The weights are those of even steps whatever the grid, so it is of second order. The first step asks twice and
    takes the mean of both slopes.
    """
    slopes: list[Tensor] = []
    for i, (now, nxt) in enumerate(grid.pairs()):
        x0 = yield Query(x, now, i, len(grid))
        slopes = [to_noise(x0, x, now), *slopes[:3]]
        if nxt.sigma == 0 or now.alpha == 0:
            x = nxt.alpha * x0 + nxt.sigma * slopes[0]
        elif len(slopes) == 1:
            ahead = nxt.alpha * x0 + nxt.sigma * slopes[0]
            there = yield Query(ahead, nxt, i, len(grid))
            x = along(x, 0.5 * (slopes[0] + to_noise(there, ahead, nxt)), now, nxt)
        else:
            x = along(x, _weighed(slopes, EVEN[len(slopes) - 1]), now, nxt)
    return x


def ipndm(x: Tensor, grid: Grid, noise: Noise) -> Solver:
    """`plms` with a plain first step and rising order (Zhang & Chen 2023, "iPNDM"). `noise` is not used."""
    slopes: list[Tensor] = []
    for i, (now, nxt) in enumerate(grid.pairs()):
        x0 = yield Query(x, now, i, len(grid))
        slopes = [to_noise(x0, x, now), *slopes[:3]]
        if nxt.sigma == 0 or now.alpha == 0:
            x = nxt.alpha * x0 + nxt.sigma * slopes[0]
        else:
            x = along(x, _weighed(slopes, EVEN[len(slopes) - 1]), now, nxt)
    return x


def lms(x: Tensor, grid: Grid, noise: Noise, order: int = 4) -> Solver:
    """Linear multistep: the polynomial in sigma / alpha through up to `order` slopes, integrated (k-diffusion)."""
    return _uneven(x, grid, order, power_weights)


def deis(x: Tensor, grid: Grid, noise: Noise, order: int = 3) -> Solver:
    """The polynomial in log(sigma / alpha) through up to `order` slopes, integrated (Zhang & Chen 2023, "rhoAB-DEIS")."""
    return _uneven(x, grid, order, log_weights)


def _uneven(x: Tensor, grid: Grid, order: int, weights: Callable[[Sequence[float], float], Sequence[float]]) -> Solver:
    if order < 1:
        raise SpecError(explain(f"order = {order}", "1 (Euler) or more is allowed"))
    past: list[tuple[float, Tensor]] = []
    for i, (now, nxt) in enumerate(grid.pairs()):
        x0 = yield Query(x, now, i, len(grid))
        slope = to_noise(x0, x, now)
        if nxt.sigma == 0 or now.alpha == 0:
            x = nxt.alpha * x0 + nxt.sigma * slope
        else:
            past = [(now.ratio, slope), *past[: order - 1]]
            ratios, slopes = zip(*past, strict=True)
            x = nxt.alpha * (x / now.alpha + _weighed(slopes, weights(ratios, nxt.ratio)))
    return x


def power_weights(ratios: Sequence[float], end: float) -> list[float]:
    """What each slope counts from `ratios[0]` to `end` for the polynomial in the ratio through all of them."""
    length = end - ratios[0]
    nodes = [(ratio - ratios[0]) / length for ratio in ratios]
    return _quadrature(nodes, [length / (k + 1) for k in range(len(nodes))])


def log_weights(ratios: Sequence[float], end: float) -> list[float]:
    """The same for the polynomial in the log of the ratio."""
    length = math.log(end / ratios[0])
    nodes = [math.log(ratio / ratios[0]) / length for ratio in ratios]
    return _quadrature(nodes, [ratios[0] * length * moment for moment in _moments(length, len(nodes))])


def _quadrature(nodes: Sequence[float], moments: Sequence[float]) -> list[float]:
    """Weights that are right for as many powers as there are nodes."""
    powers = np.vander(np.asarray(nodes), increasing=True).T
    return [float(weight) for weight in np.linalg.solve(powers, np.asarray(moments))]


def _moments(length: float, count: int) -> list[float]:
    """Integrals of u^k exp(length * u) over [0, 1]: by parts, or where that would cancel by the series of exp."""
    if abs(length) < SERIES_BELOW:
        return [sum(length**n / (math.factorial(n) * (n + k + 1)) for n in range(TERMS)) for k in range(count)]
    found = [math.expm1(length) / length]
    for k in range(1, count):
        found.append((math.exp(length) - k * found[-1]) / length)
    return found


def _weighed(slopes: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    total = weights[0] * slopes[0]
    for weight, slope in zip(weights[1:], slopes[1:], strict=True):
        total = total + weight * slope
    return total
