"""UniPC: one formula predicts the next x and, once the net was asked there, corrects it (Zhao et al. 2023)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from torch import Tensor

from undiffuse.core.errors import SpecError, explain
from undiffuse.diffusion.drive import Noise, Query, Solver
from undiffuse.diffusion.grid import Grid
from undiffuse.diffusion.level import Level
from undiffuse.diffusion.solvers.ratio import log_step, towards

Variant = Literal["bh1", "bh2"]
Past = list[tuple[Level, Tensor]]


def uni_pc(x: Tensor, grid: Grid, noise: Noise, order: int = 3, variant: Variant = "bh1") -> Solver:
    """Predictor and corrector of up to this order on x0, one query a step (Zhao et al. 2023, algorithms 5 to 8).

    The order rises from 1 and falls to 1 again towards the clean level. Out of alpha = 0 the step is of first order and
    is not corrected, and that estimate takes no part in later steps. `noise` is not used.

    Args:
        x: what to start from (B, ...).
        grid: the levels.
        noise: not used.
        order: estimates that a step looks back on, 1 to 3.
        variant: B(h) = h, "bh1", or exp(h) - 1, "bh2".

    Raises:
        SpecError: when the order is not 1, 2 or 3.
    """
    if order not in (1, 2, 3):
        raise SpecError(explain(f"order = {order}", "1, 2 and 3 are allowed"))
    past: Past = []  # latest first
    before: tuple[Tensor, int] | None = None  # the x and the order of the step that was predicted last
    for i, (now, nxt) in enumerate(grid.pairs()):
        x0 = yield Query(x, now, i, len(grid))
        if before is not None and nxt.sigma > 0:
            x = _step(before[0], past[: before[1]], now, variant, x0)
        if now.alpha == 0 or nxt.sigma == 0:
            x, before = towards(x, x0, now, nxt), None
            continue
        past = [(now, x0), *past[:2]]
        used = min(order, len(past), len(grid) - i)
        before = (x, used)
        x = _step(x, past[:used], nxt, variant)
    return x


def uni_pc_bh2(x: Tensor, grid: Grid, noise: Noise, order: int = 3) -> Solver:
    """`uni_pc` with B(h) = exp(h) - 1, better at few steps."""
    return uni_pc(x, grid, noise, order, "bh2")


def _step(x: Tensor, past: Past, nxt: Level, variant: Variant, there: Tensor | None = None) -> Tensor:
    """From the level of the latest estimate to the next; with the estimate that was made there, corrected."""
    now, x0 = past[0]
    step = log_step(now, nxt)
    spans = [-log_step(level, now) / step for level, _ in past[1:]]
    changes = [(earlier - x0) / span for (_, earlier), span in zip(past[1:], spans, strict=True)]
    if there is not None:
        spans, changes = [*spans, 1.0], [*changes, there - x0]
    found = towards(x, x0, now, nxt)
    for weight, change in zip(_weights(spans, step, variant, there is not None), changes, strict=True):
        found = found + nxt.alpha * weight * change
    return found


def _weights(spans: Sequence[float], step: float, variant: Variant, corrects: bool) -> list[float]:
    """What each change counts: eq. 8 and 9 of the paper for x0, which solve a Vandermonde system in the spans.

    A single change counts half of B(h), by which the paper spares itself the system and keeps the order.
    """
    scale = step if variant == "bh1" else -math.expm1(-step)
    if len(spans) <= 1:
        return [0.5 * scale] * len(spans)
    phi, factorial, wanted = math.expm1(-step) / -step - 1, 1.0, []
    for k in range(1, len(spans) + 1):
        wanted.append(phi * factorial)
        factorial *= k + 1
        phi = phi / -step - 1 / factorial
    powers = np.vander(np.asarray(spans), increasing=True).T
    return [-float(weight) for weight in np.linalg.solve(powers, np.asarray(wanted))]
