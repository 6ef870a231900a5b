"""Noise schedules: how much signal and noise there is, from u = 0 (clean) to u = 1 (most noise).

The variance-preserving kinds hold a table over t = 0 .. steps-1 as the originals trained them, and interpolate
log alpha between whole steps. "flow" is the straight line alpha = 1 - u, sigma = u (Liu et al. 2022).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from undiffuse.core.spec import Spec
from undiffuse.diffusion.level import Level

FLOW_STEPS = 1000
COSINE_OFFSET = 0.008
MOST_BETA = 0.999

Beta = Annotated[float, Field(gt=0, lt=1)]


class ScheduleSpec(Spec):
    """A schedule by kind. SD 1.x, 2.x and XL: scaled_linear from 0.00085 to 0.012 (named "linear" in LDM configs)."""

    kind: Literal["linear", "scaled_linear", "cosine", "flow"]
    beta_start: Beta = 0.00085
    beta_end: Beta = 0.012
    steps: Annotated[int, Field(ge=2)] = 1000
    zero_terminal_snr: bool = False


class Schedule(ABC):
    """Levels for continuous u in [0, 1], in float64."""

    t_max: float

    @property
    @abstractmethod
    def zero_terminal_snr(self) -> bool:
        """Whether alpha reaches 0 at u = 1."""

    @abstractmethod
    def at(self, t: float) -> Level:
        """The level at the time that the net is told, t in [0, t_max]."""

    @abstractmethod
    def training_level(self, u: Tensor) -> Level:
        """Levels (B,) in float32 for u (B,) in [0, 1], among those that training visits."""

    def level(self, u: float) -> Level:
        """The level at u in [0, 1]: 0 is the least noise of the schedule, 1 the most."""
        return self.at(u * self.t_max)

    @abstractmethod
    def from_ratio(self, ratio: float) -> Level:
        """The level with this sigma / alpha, cut off at the ends of the schedule."""


class FlowSchedule(Schedule):
    """alpha = 1 - u, sigma = u; the net is told 1000 u."""

    t_max = float(FLOW_STEPS)

    @property
    def zero_terminal_snr(self) -> bool:
        """Always: alpha is 0 at u = 1."""
        return True

    def at(self, t: float) -> Level:
        """The level at t = 1000 u."""
        u = t / self.t_max
        return Level(float(t), 1.0 - u, u)

    def training_level(self, u: Tensor) -> Level:
        """Levels (B,) at any u (B,) in [0, 1]."""
        u = u.float()
        return Level(u * self.t_max, 1 - u, u)

    def from_ratio(self, ratio: float) -> Level:
        """u = ratio / (1 + ratio); pure noise where it is infinite."""
        return self.at(self.t_max if math.isinf(ratio) else self.t_max * ratio / (1 + ratio))


class DiscreteSchedule(Schedule):
    """A variance-preserving table: alphas[t]^2 + sigmas[t]^2 = 1 for t = 0 .. steps-1."""

    def __init__(self, alphas: np.ndarray) -> None:
        self.alphas = alphas
        self.sigmas = np.sqrt(1 - alphas**2)
        self.t_max = float(len(alphas) - 1)

    @property
    def zero_terminal_snr(self) -> bool:
        """Whether the last alpha of the table is 0."""
        return bool(self.alphas[-1] == 0)

    def at(self, t: float) -> Level:
        """The level at t, between whole steps by interpolating log alpha."""
        below = min(int(t), len(self.alphas) - 1)
        share = t - below
        if share == 0:
            return Level(float(t), float(self.alphas[below]), float(self.sigmas[below]))
        first, second = float(self.alphas[below]), float(self.alphas[below + 1])
        if second == 0:  # log 0: go linearly into the last, empty step
            alpha = first * (1 - share)
        else:
            alpha = math.exp((1 - share) * math.log(first) + share * math.log(second))
        return Level(t, alpha, math.sqrt(1 - alpha**2))

    def training_level(self, u: Tensor) -> Level:
        """Levels (B,) of whole steps, each of them for an equal share of [0, 1]."""
        t = (u.double() * len(self.alphas)).long().clamp(0, len(self.alphas) - 1)
        alpha, sigma = (torch.from_numpy(table)[t].float() for table in (self.alphas, self.sigmas))
        return Level(t.float(), alpha, sigma)

    def from_ratio(self, ratio: float) -> Level:
        """The level with this sigma / alpha, at the t where the interpolated table meets it."""
        alpha = 0.0 if math.isinf(ratio) else 1 / math.sqrt(1 + ratio**2)
        falling = self.alphas[::-1]
        if alpha >= falling[-1]:
            return self.at(0.0)
        if alpha <= falling[0]:
            return self.at(self.t_max)
        above = int(np.searchsorted(falling, alpha))
        t = len(self.alphas) - 1 - above
        first, second = self.alphas[t], self.alphas[t + 1]
        if second == 0:
            share = 1 - alpha / first
        else:
            share = (math.log(first) - math.log(alpha)) / (math.log(first) - math.log(second))
        return Level(float(t + share), alpha, math.sqrt(1 - alpha**2))


def build_schedule(spec: ScheduleSpec) -> Schedule:
    """The schedule of a spec."""
    if spec.kind == "flow":
        return FlowSchedule()
    alphas = np.sqrt(np.cumprod(1 - _betas(spec)))
    return DiscreteSchedule(rescale_to_zero_snr(alphas) if spec.zero_terminal_snr else alphas)


def level_at(schedule: Schedule, ratio: float) -> Level:
    """The level with exactly this sigma / alpha; beyond the ends of the schedule the net is told the end's t."""
    level = schedule.from_ratio(ratio)
    if math.isclose(level.ratio, ratio, rel_tol=1e-9) or math.isinf(ratio):
        return level
    alpha = math.hypot(float(level.alpha), float(level.sigma)) / math.hypot(1.0, ratio)
    return Level(level.t, alpha, ratio * alpha)


def _betas(spec: ScheduleSpec) -> np.ndarray:
    if spec.kind == "linear":
        return np.linspace(spec.beta_start, spec.beta_end, spec.steps, dtype=np.float64)
    if spec.kind == "scaled_linear":
        return np.linspace(spec.beta_start**0.5, spec.beta_end**0.5, spec.steps, dtype=np.float64) ** 2
    u = np.arange(spec.steps + 1, dtype=np.float64) / spec.steps  # Nichol & Dhariwal 2021, eq. 17
    square = np.cos((u + COSINE_OFFSET) / (1 + COSINE_OFFSET) * np.pi / 2) ** 2
    return np.minimum(1 - square[1:] / square[:-1], MOST_BETA)


def rescale_to_zero_snr(alphas: np.ndarray) -> np.ndarray:
    """Shift and stretch alphas (T,) so that the last is exactly 0 and the first stays (Lin et al. 2024, algorithm 1)."""
    first, last = alphas[0], alphas[-1]
    rescaled = (alphas - last) * first / (first - last)
    rescaled[-1] = 0.0
    return rescaled
