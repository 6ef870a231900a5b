"""Brownian noise that is the same whatever the steps: a function of who draws and of the two levels, nothing else.

The reverse SDE of x0 prediction (Lu et al. 2022b, appendix D) is, in u = (x / alpha) / (sigma / alpha)^2 and the clock
tau = snr = alpha^2 / sigma^2, just du = x0 dtau + dW. So W over snr is the noise of every run on every schedule: a run
of 20 steps and one of 200 see the same path, and approach the same picture. The clock starts at 0 where alpha is 0.
"""

from __future__ import annotations

import math
from typing import Protocol, runtime_checkable

from torch import Tensor

from undiffuse.diffusion.drive import Noise
from undiffuse.diffusion.grid import Grid
from undiffuse.diffusion.level import Level

OCTAVES = 40  # the path covers snr from 2^-40 to 2^40; below it is 0
DEPTH = 16  # halvings of its 80 octaves: 819 leaves an octave
FIRST_KEY = -2  # steps count up from 0, and -1 is the noise that a picture starts from


class Path(Protocol):
    """What a solver draws from that wants noise of one path at every step."""

    def between(self, now: Level, nxt: Level) -> Tensor:
        """Standard normal noise (B, ...) for the step from a level to a cleaner one."""
        ...


@runtime_checkable
class BringsPath(Protocol):
    """Noise that has a path of its own."""

    def path(self, grid: Grid) -> Path:
        """The path for a run over this grid."""
        ...


def path_of(noise: Noise, grid: Grid) -> Path:
    """The path that the noise of a run brings; where it brings none, one that is made of its draws."""
    return noise.path(grid) if isinstance(noise, BringsPath) else BrownianPath(noise)


class BrownianPath:
    """W over snr, made of the `Noise` of a run by halving log snr (Levy's construction).

    Each node of the tree draws from a negative step of its own, so a picture's path is its own too: the batch, the
    position in it and the number of steps change nothing. Only the draws of the latest leaf and the ends of the latest
    step are held.
    """

    def __init__(self, noise: Noise) -> None:
        self.noise = noise
        self._held: dict[int, Tensor] = {}
        self._ends: dict[float, Tensor] = {}

    def between(self, now: Level, nxt: Level) -> Tensor:
        """Standard normal noise (B, ...) for the step from a level to a cleaner one, the increment of W over its length."""
        start, end = (_snr(level) for level in (now, nxt))
        self._ends = {snr: self._ends[snr] if snr in self._ends else self.at(snr) for snr in (start, end)}
        return (self._ends[end] - self._ends[start]) / math.sqrt(end - start)

    def at(self, snr: float) -> Tensor:
        """W (B, ...) at this snr, cut off at the ends; its variance is snr."""
        place = math.log2(min(max(snr, 2.0**-OCTAVES), 2.0**OCTAVES))
        low, high, node = -float(OCTAVES), float(OCTAVES), 1
        used = {0: self._draw(0)}
        left, right = 0.0 * used[0], 2.0 ** (OCTAVES / 2) * used[0]
        for _ in range(DEPTH):
            middle = (low + high) / 2
            used[node] = self._draw(node)
            found = _bridge(left, right, 2.0**low, 2.0**middle, 2.0**high, used[node])
            if place < middle:
                high, right, node = middle, found, 2 * node
            else:
                low, left, node = middle, found, 2 * node + 1
        used[node] = self._draw(node)  # the last node stands at the place itself
        self._held = used
        return _bridge(left, right, 2.0**low, 2.0**place, 2.0**high, used[node])

    def _draw(self, node: int) -> Tensor:
        return self._held[node] if node in self._held else self.noise(FIRST_KEY - node)


def _bridge(left: Tensor, right: Tensor, start: float, middle: float, end: float, fresh: Tensor) -> Tensor:
    """A Brownian path in the middle, given its ends: normal around the straight line between them."""
    share = (middle - start) / (end - start)
    return left + share * (right - left) + math.sqrt(share * (end - middle)) * fresh


def _snr(level: Level) -> float:
    return float(level.alpha) ** 2 / float(level.sigma) ** 2
