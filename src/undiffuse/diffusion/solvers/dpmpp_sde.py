"""The SDE of DPM-Solver++ (Lu et al. 2022b, appendix D; k-diffusion), on Brownian paths that no step count changes.

Down by (1 + eta) times the step in log SNR, up again by fresh noise; eta = 0 is the ODE.
"""

from __future__ import annotations

import math
from typing import Literal

from torch import Tensor

from undiffuse.core.errors import SpecError, explain
from undiffuse.diffusion.brownian import Path, path_of
from undiffuse.diffusion.drive import Noise, Query, Solver
from undiffuse.diffusion.grid import Grid
from undiffuse.diffusion.level import Level
from undiffuse.diffusion.solvers.ratio import ancestral, halfway, log_step, remaining, towards


def dpmpp_sde(x: Tensor, grid: Grid, noise: Noise, eta: float = 1.0, s_noise: float = 1.0) -> Solver:
    """Two stages a step, the second in the middle of it, both with noise of one path (k-diffusion, r = 1/2).

    One stage into the clean level and out of alpha = 0.
    """
    path = path_of(noise, grid)

    def stage(x: Tensor, x0: Tensor, now: Level, nxt: Level) -> Tensor:
        kept, fresh = ancestral(now, nxt, eta)
        x = towards(x, x0, now, nxt, kept)
        return x + nxt.sigma * fresh * s_noise * path.between(now, nxt) if nxt.sigma > 0 and fresh > 0 else x

    for i, (now, nxt) in enumerate(grid.pairs()):
        x0 = yield Query(x, now, i, len(grid))
        if nxt.sigma > 0 and now.alpha > 0:
            middle = halfway(grid.schedule, now, nxt.ratio)
            x0 = yield Query(stage(x, x0, now, middle), middle, i, len(grid))
        x = stage(x, x0, now, nxt)
    return x


def dpmpp_2m_sde(
    x: Tensor,
    grid: Grid,
    noise: Noise,
    eta: float = 1.0,
    s_noise: float = 1.0,
    rule: Literal["midpoint", "heun"] = "midpoint",
) -> Solver:
    """The stochastic form of `dpmpp_2m`. First order where there is no usable history, as there.

    Args:
        x: what to start from (B, ...).
        grid: the levels.
        noise: what the Brownian path is made of.
        eta: how much fresh noise; 0 is the ODE.
        s_noise: a factor on fresh noise.
        rule: how the change of x0 counts: "midpoint", or by its exact integral, "heun".
    """
    path = path_of(noise, grid)
    earlier: Tensor | None = None
    step_before = math.inf
    for i, (now, nxt) in enumerate(grid.pairs()):
        x0 = yield Query(x, now, i, len(grid))
        step = log_step(now, nxt)
        whole = step * (1 + eta)
        x = _down(x, x0, now, nxt, eta)
        if earlier is not None and math.isfinite(step) and math.isfinite(step_before):
            share = 0.5 * -math.expm1(-whole) if rule == "midpoint" else _phi(whole)
            x = x + nxt.alpha * share * step / step_before * (x0 - earlier)
        x = _up(x, now, nxt, eta, s_noise, path)
        earlier, step_before = x0, step
    return x


def dpmpp_2m_sde_heun(x: Tensor, grid: Grid, noise: Noise, eta: float = 1.0, s_noise: float = 1.0) -> Solver:
    """`dpmpp_2m_sde` with the rule "heun"."""
    return dpmpp_2m_sde(x, grid, noise, eta, s_noise, "heun")


def dpmpp_3m_sde(x: Tensor, grid: Grid, noise: Noise, eta: float = 1.0, s_noise: float = 1.0) -> Solver:
    """Multistep with two earlier estimates (k-diffusion); of lower order while there are fewer.

    Its bend counts half of what third order needs, as everybody draws with it: as an ODE it is of second order.
    """
    path = path_of(noise, grid)
    past: list[tuple[Tensor, float]] = []  # estimates, each with the step that was taken from it
    for i, (now, nxt) in enumerate(grid.pairs()):
        x0 = yield Query(x, now, i, len(grid))
        step = log_step(now, nxt)
        x = _down(x, x0, now, nxt, eta)
        if past and math.isfinite(step):
            whole = step * (1 + eta)
            first = _phi(whole)
            nearer, near = past[0][1] / step, (x0 - past[0][0]) * (step / past[0][1])
            slope, bend = near, None
            if len(past) > 1:
                farther, far = past[1][1] / step, (past[0][0] - past[1][0]) * (step / past[1][1])
                bend = (near - far) / (nearer + farther)
                slope = near + bend * nearer
            x = x + nxt.alpha * first * slope
            if bend is not None:
                x = x - nxt.alpha * (first / whole - 0.5) * bend
        x = _up(x, now, nxt, eta, s_noise, path)
        past = [(x0, step), *past[:1]] if math.isfinite(step) else []
    return x


def _down(x: Tensor, x0: Tensor, now: Level, nxt: Level, eta: float) -> Tensor:
    if eta < 0:
        raise SpecError(explain(f"eta = {eta}", "0 (the ODE) or more is allowed"))
    return towards(x, x0, now, nxt, remaining(now, nxt) ** eta)


def _up(x: Tensor, now: Level, nxt: Level, eta: float, s_noise: float, path: Path) -> Tensor:
    if nxt.sigma == 0 or eta == 0:
        return x
    return x + nxt.sigma * (1 - remaining(now, nxt) ** (2 * eta)) ** 0.5 * s_noise * path.between(now, nxt)


def _phi(whole: float) -> float:
    """The integral of a change that grows evenly over a step: 1 - (1 - exp(-h)) / h."""
    return 1 + math.expm1(-whole) / whole
