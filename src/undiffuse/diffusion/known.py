"""Filling holes with any model: what is known of a latent is held to, nothing is learned for it.

`hidden` (B, 1, h, w) is 1 where a latent is made anew and 0 where it is known.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import torch
from torch import Tensor

from undiffuse.core.conditioning import Conditioning
from undiffuse.core.errors import SpecError, explain
from undiffuse.diffusion.denoise import Denoise
from undiffuse.diffusion.drive import Noise, Query, Solver
from undiffuse.diffusion.grid import Grid
from undiffuse.diffusion.level import Level
from undiffuse.diffusion.prediction import add_noise
from undiffuse.diffusion.solvers.ratio import posterior_noise, raised, remaining


def keep_known(denoise: Denoise, known: Tensor, hidden: Tensor) -> Denoise:
    """The denoiser with its estimate replaced by the clean latent `known` (B, C, h, w) wherever nothing is hidden.

    This is right for every solver, for a solver moves along whatever x0 it is told. Where that never changes, its
    noise (x - alpha * x0) / sigma does not either: an ODE goes from there to the known latent on the exact path,
    histories and averages of estimates add nothing, and an ancestral step draws from the true q(x_next | x, known).
    Into the clean level every solver steps onto the last estimate, so the known region ends as it is, to the bit.
    The hidden region sees the known one only through the net; `repaint` lets both settle with each other.
    """

    def kept(x: Tensor, level: Level, cond: Conditioning) -> Tensor:
        x0 = denoise(x, level, cond)
        return torch.where(hidden > 0, x0, known.to(x0))

    return kept


def blended(denoise: Denoise, known: Tensor, hidden: Tensor, noise: Tensor, but: Level | None = None) -> Denoise:
    """The denoiser with what it sees of the known region made of `known` and always the same `noise` (B, C, h, w).

    An ODE has it so by itself. Where a solver draws anew in every step, other programs keep the noise of the start.

    Args:
        denoise: what is asked.
        known: the clean latent (B, C, h, w).
        hidden: (B, 1, h, w).
        noise: that of the known region.
        but: a level at which x stays as the solver has it.
    """

    def seen(x: Tensor, level: Level, cond: Conditioning) -> Tensor:
        if level is but:
            return denoise(x, level, cond)
        return denoise(torch.where(hidden > 0, x, add_noise(known.to(x), noise.to(x), level)), level, cond)

    return seen


def repaint(x: Tensor, grid: Grid, noise: Noise, known: Tensor, hidden: Tensor, jump: int = 1, resamples: int = 5) -> Solver:
    """Ancestral steps with the known region noised afresh at every level, each stretch of the way gone several times.

    After `jump` steps down the whole x is noised up again to where the stretch began, until the stretch has been
    gone `resamples` times: so the hidden region settles with the known one at every level, not just at its own pace
    (Lugmayr et al. 2022, "RePaint", algorithm 1 and section 4.2). The last stretch is gone once. A query's `index`
    tells the furthest step so far. The paper jumps 10 of 250 steps and draws 10 times; one step of a grid of 20 is as far.

    Args:
        x: noise of the grid's first level (B, C, h, w); where it is known it is not read.
        grid: the levels.
        noise: asked with a number of its own for every draw.
        known: the clean latent (B, C, h, w).
        hidden: (B, 1, h, w).
        jump: steps in a stretch.
        resamples: how often a stretch is gone; 1 only noises the known region afresh.

    Raises:
        SpecError: when `jump` or `resamples` is below 1.
    """
    if jump < 1 or resamples < 1:
        raise SpecError(explain(f"jump = {jump}, resamples = {resamples}", "1 or more is allowed"))
    draws = count()
    anew, known = hidden > 0, known.to(x)
    x = torch.where(anew, x, add_noise(known, noise(next(draws)), grid[0]))
    furthest = 0
    for row, back in _way(len(grid), jump, resamples):
        now, nxt = grid[row], grid[row + 1]
        furthest = max(furthest, row)
        x0 = yield Query(x, now, furthest, len(grid))
        left, fresh = remaining(now, nxt), noise(next(draws))  # one draw for both regions: they do not overlap
        drawn = (left * nxt.sigma / now.sigma) * x + nxt.alpha * (1 - left**2) * x0 + posterior_noise(now, nxt) * fresh
        x = torch.where(anew, drawn, add_noise(known, fresh, nxt) if nxt.sigma else known)
        if back is not None:
            x = raised(x, nxt, grid[back], noise(next(draws)))
    return x


def _way(steps: int, jump: int, resamples: int) -> Iterator[tuple[int, int | None]]:
    """The rows in the order of their steps, each with the row that is gone back to after it, if any."""
    for start in range(0, steps, jump):
        end = min(start + jump, steps)
        for again in reversed(range(resamples if end < steps else 1)):
            for row in range(start, end):
                yield row, start if again and row + 1 == end else None
