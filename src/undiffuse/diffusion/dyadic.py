"""The Brownian paths that k-diffusion draws with, as torchsde makes them: halves of halves, down to a millionth.

Their clock is sigma / alpha itself, where that of `brownian.py` is the SNR. Every half has a seed of its own, from
NumPy's `SeedSequence` by its place in the tree (Li et al. 2020, section 4; Kidger et al. 2021, section 4).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from torch import Tensor

from undiffuse.core.errors import SpecError, explain
from undiffuse.diffusion.grid import Grid
from undiffuse.diffusion.level import Level

DIGITS = 6  # times are told apart to 1e-6
POOL = 24  # words of entropy that a seed is mixed from


class DyadicPath:
    """W over sigma / alpha from 0 at the lower end on; a function of the entropy and the two ends.

    Args:
        entropy: the seed of the path.
        start: the least positive sigma / alpha of the run.
        end: the largest.
        draw: standard normal numbers (1, ...) of a 32-bit seed.
    """

    def __init__(self, entropy: int, start: float, end: float, draw: Callable[[int], Tensor]) -> None:
        self.entropy = entropy
        self.start, self.end = _rounded(start), _rounded(end)
        self.draw = draw
        self._whole = draw(self._seed(3)) * math.sqrt(float(np.float32(end)) - float(np.float32(start)))
        self._held: dict[tuple[int, int], Tensor] = {}

    def between(self, now: Level, nxt: Level) -> Tensor:
        """Standard normal noise (1, ...) for the step from a level to a cleaner one."""
        high, low = now.ratio, nxt.ratio
        return (self.at(low) - self.at(high)) / math.sqrt(high - low)

    def at(self, ratio: float) -> Tensor:
        """W (1, ...) at this sigma / alpha, cut off at the ends."""
        place = min(max(_rounded(ratio), self.start), self.end)
        low, high, key, depth = self.start, self.end, 0, 0
        before, across = 0.0 * self._whole, self._whole  # W at the lower end of the piece, and what it grows by in it
        used: dict[tuple[int, int], Tensor] = {}
        while place not in (low, high):
            middle = round(0.5 * (low + high), DIGITS)
            used[key, depth] = fresh = self._held[key, depth] if (key, depth) in self._held else self._fresh(key, depth)
            share = (middle - low) / (high - low)
            left = share * across + math.sqrt(share * (high - middle)) * fresh
            if place <= middle:
                high, across, key = middle, left, 2 * key
            else:
                low, before, across, key = middle, before + left, across - left, 2 * key + 1
            depth += 1
        self._held = used
        return before if place == low else before + across

    def _fresh(self, key: int, depth: int) -> Tensor:
        return self.draw(self._seed(4, (key, depth)))

    def _seed(self, words: int, place: tuple[int, ...] = ()) -> int:
        return int(np.random.SeedSequence(self.entropy, spawn_key=place, pool_size=POOL).generate_state(words)[0])


def dyadic_path(entropy: int, grid: Grid, draw: Callable[[int], Tensor]) -> DyadicPath:
    """The path for a run over this grid.

    Raises:
        SpecError: when the grid begins at zero SNR.
    """
    return DyadicPath(entropy, *ends(grid), draw)


def ends(grid: Grid) -> tuple[float, float]:
    """The least positive and the largest sigma / alpha of a grid.

    Raises:
        SpecError: when it begins at zero SNR, where sigma / alpha is infinite and so has no such path.
    """
    largest = grid[0].ratio
    if math.isinf(largest):
        given = "a schedule that ends at zero SNR, with the Brownian noise of another program"
        raise SpecError(explain(given, "its clock is sigma / alpha, which is infinite there", "seeds = 'native' goes"))
    return grid[len(grid) - 1].ratio, largest


def _rounded(ratio: float) -> float:
    """As the others have it: in float32, then to six digits."""
    return round(float(np.float32(ratio)), DIGITS)
