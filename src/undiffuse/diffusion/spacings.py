"""Where the levels of a run lie: a rule for each spacing that is in use, after the program that users know it from.

A rule gives the levels from the noisiest on; `make_grid` puts the clean one behind them.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from undiffuse.diffusion.level import Level
from undiffuse.diffusion.quantiles import symmetric_beta
from undiffuse.diffusion.schedule import DiscreteSchedule, Schedule, level_at

KARRAS_RHO = 7.0
BETA_SHAPE = 0.6

Rule = Callable[[Schedule, int], list[Level]]

ALIGNED = (14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029)
ALIGNED_XL = (14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113, 0.029)


def _trailing(schedule: Schedule, steps: int) -> list[Level]:
    if not isinstance(schedule, DiscreteSchedule):
        return [schedule.level((steps - i) / steps) for i in range(steps)]
    count = schedule.t_max + 1
    return [schedule.at(round(count - i * count / steps) - 1) for i in range(steps)]


def _leading(schedule: Schedule, steps: int) -> list[Level]:
    if not isinstance(schedule, DiscreteSchedule):
        return _trailing(schedule, steps)  # a continuous schedule has no first step to start from
    stride = int((schedule.t_max + 1) // steps)
    offset = min(1, schedule.t_max - (steps - 1) * stride)  # as many steps as levels leave no room for it
    return [schedule.at(i * stride + offset) for i in reversed(range(steps))]


def _linspace(schedule: Schedule, steps: int) -> list[Level]:
    if not isinstance(schedule, DiscreteSchedule):
        return _trailing(schedule, steps)  # its last level is the clean one
    return [schedule.at(float(t)) for t in np.linspace(schedule.t_max, 0, steps)]


def _karras(schedule: Schedule, steps: int) -> list[Level]:
    high, low = ends_of(schedule)
    roots = np.linspace(high ** (1 / KARRAS_RHO), low ** (1 / KARRAS_RHO), steps)
    return _by_ratio(schedule, roots**KARRAS_RHO)


def _exponential(schedule: Schedule, steps: int) -> list[Level]:
    high, low = ends_of(schedule)
    return _by_ratio(schedule, np.exp(np.linspace(math.log(high), math.log(low), steps)))


def _sgm_uniform(schedule: Schedule, steps: int) -> list[Level]:
    if not isinstance(schedule, DiscreteSchedule):
        return _trailing(schedule, steps)
    return [schedule.at(schedule.t_max * (1 - i / steps)) for i in range(steps)]


def _simple(schedule: Schedule, steps: int) -> list[Level]:
    if not isinstance(schedule, DiscreteSchedule):
        return _trailing(schedule, steps)
    count = schedule.t_max + 1
    return [schedule.at(schedule.t_max - int(i * (count / steps))) for i in range(steps)]


def _ddim_uniform(schedule: Schedule, steps: int) -> list[Level]:
    if not isinstance(schedule, DiscreteSchedule):
        return _trailing(schedule, steps)
    count = int(schedule.t_max) + 1
    return [schedule.at(float(t)) for t in reversed(range(1, count, max(count // steps, 1)))]


def _kl_optimal(schedule: Schedule, steps: int) -> list[Level]:
    high, low = (math.atan(end) for end in ends_of(schedule))
    return _by_ratio(schedule, np.tan(np.linspace(high, low, steps)))


def _beta(schedule: Schedule, steps: int) -> list[Level]:
    high, low = ends_of(schedule)
    quantiles = symmetric_beta(1 - np.linspace(0, 1, steps), BETA_SHAPE)
    return _by_ratio(schedule, low + quantiles * (high - low))


def _aligned(table: tuple[float, ...]) -> Rule:
    def rule(schedule: Schedule, steps: int) -> list[Level]:
        """The published ratios, interpolated geometrically to as many as are wanted, from the schedule's own end."""
        places = np.linspace(0, 1, steps)
        ratios = np.exp(np.interp(places, np.linspace(0, 1, len(table)), np.log(table)))
        inside = [float(value) for value in ratios[1:] if value < ends_of(schedule)[0]]
        return [schedule.at(schedule.t_max), *(level_at(schedule, value) for value in inside)]

    return rule


SPACINGS: dict[str, Rule] = {
    "trailing": _trailing,
    "leading": _leading,
    "linspace": _linspace,
    "sgm_uniform": _sgm_uniform,
    "simple": _simple,
    "ddim_uniform": _ddim_uniform,
    "karras": _karras,
    "exponential": _exponential,
    "kl_optimal": _kl_optimal,
    "beta": _beta,
    "align_your_steps": _aligned(ALIGNED),
    "align_your_steps_xl": _aligned(ALIGNED_XL),
}


def _by_ratio(schedule: Schedule, ratios: np.ndarray) -> list[Level]:
    """Levels of these ratios; the first is the schedule's own last one, also where its ratio is infinite."""
    return [schedule.at(schedule.t_max), *(schedule.from_ratio(float(value)) for value in ratios[1:])]


def ends_of(schedule: Schedule) -> tuple[float, float]:
    """The largest finite and the smallest positive sigma / alpha of the schedule's whole steps."""
    high = schedule.at(schedule.t_max).ratio
    if math.isinf(high):
        high = schedule.at(schedule.t_max - 1).ratio
    low = schedule.at(0.0).ratio
    return high, low if low > 0 else schedule.at(1.0).ratio
