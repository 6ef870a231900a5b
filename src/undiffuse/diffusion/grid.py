"""`Grid`: the levels that a run visits, from most noise to none, in float64 on the host."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from undiffuse.core.errors import SpecError, explain
from undiffuse.core.spec import pick
from undiffuse.diffusion.level import Level
from undiffuse.diffusion.schedule import DiscreteSchedule, Schedule

CLEAN = Level(0.0, 1.0, 0.0)
KARRAS_RHO = 7.0


@dataclass(frozen=True)
class Grid:
    """Levels with scalar floats; the last one is clean. `len` counts steps, one less than levels."""

    levels: tuple[Level, ...]
    schedule: Schedule

    def __len__(self) -> int:
        return len(self.levels) - 1

    def __getitem__(self, index: int) -> Level:
        return self.levels[index]

    def pairs(self) -> Iterator[tuple[Level, Level]]:
        """Each level with the next."""
        return zip(self.levels[:-1], self.levels[1:], strict=True)

    def from_strength(self, strength: float) -> Grid:
        """The last part of the grid: `strength` of its steps, at least one (picture to picture, Meng et al. 2022).

        Raises:
            SpecError: when strength is not in (0, 1].
        """
        if not 0 < strength <= 1:
            raise SpecError(explain(f"strength = {strength}", "above 0, up to 1 is allowed"))
        kept = max(1, round(strength * len(self)))
        return Grid(self.levels[-kept - 1 :], self.schedule)

    def between(self, index: int, share: float) -> Level:
        """The level between rows `index` and `index + 1`: sigma / alpha interpolated geometrically, else t linearly."""
        now, following = self.levels[index], self.levels[index + 1]
        ratios = [_ratio(level) for level in (now, following)]
        if all(0 < ratio < math.inf for ratio in ratios):
            return self.schedule.from_ratio(ratios[0] ** (1 - share) * ratios[1] ** share)
        return self.schedule.at(_number(now.t) * (1 - share) + _number(following.t) * share)


def make_grid(schedule: Schedule, steps: int, spacing: str = "trailing", strength: float = 1.0) -> Grid:
    """A grid of `steps` steps.

    | spacing     | times or ratios                                                                   |
    |-------------|-----------------------------------------------------------------------------------|
    | trailing    | even in t, from the very end of the schedule (Lin et al. 2024, table 2)           |
    | leading     | multiples of T // steps, plus one: the original DDIM; misses the end              |
    | linspace    | even in t, both ends included                                                     |
    | karras      | even in (sigma / alpha)^(1/7) (Karras et al. 2022, eq. 5)                         |
    | exponential | even in log(sigma / alpha)                                                        |

    Args:
        schedule: where levels come from.
        steps: how often the denoiser is asked, at least about; each solver says.
        spacing: how levels lie.
        strength: keep only the last part, for a run that starts from a picture.

    Raises:
        SpecError: for an unknown spacing, more steps than the schedule has levels, or a strength not in (0, 1].
    """
    rule = pick(SPACINGS, spacing, "spacing")
    if steps < 1 or (isinstance(schedule, DiscreteSchedule) and steps > schedule.t_max + 1):
        most = f"1 to {int(schedule.t_max) + 1}" if isinstance(schedule, DiscreteSchedule) else "1 or more"
        raise SpecError(explain(f"steps = {steps}", f"{most} are allowed"))
    grid = Grid((*rule(schedule, steps), CLEAN), schedule)
    return grid if strength == 1 else grid.from_strength(strength)


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
    high, low = _ends(schedule)
    roots = np.linspace(high ** (1 / KARRAS_RHO), low ** (1 / KARRAS_RHO), steps)
    return _by_ratio(schedule, roots**KARRAS_RHO)


def _exponential(schedule: Schedule, steps: int) -> list[Level]:
    high, low = _ends(schedule)
    return _by_ratio(schedule, np.exp(np.linspace(math.log(high), math.log(low), steps)))


SPACINGS: dict[str, Any] = {
    "trailing": _trailing,
    "leading": _leading,
    "linspace": _linspace,
    "karras": _karras,
    "exponential": _exponential,
}


def _by_ratio(schedule: Schedule, ratios: np.ndarray) -> list[Level]:
    """Levels of these ratios; the first is the schedule's own last one, also where its ratio is infinite."""
    return [schedule.at(schedule.t_max), *(schedule.from_ratio(float(ratio)) for ratio in ratios[1:])]


def _ends(schedule: Schedule) -> tuple[float, float]:
    """The largest finite and the smallest positive sigma / alpha of the schedule's whole steps."""
    high = _ratio(schedule.at(schedule.t_max))
    if math.isinf(high):
        high = _ratio(schedule.at(schedule.t_max - 1))
    low = _ratio(schedule.at(0.0))
    return high, low if low > 0 else _ratio(schedule.at(1.0))


def _ratio(level: Level) -> float:
    alpha = _number(level.alpha)
    return _number(level.sigma) / alpha if alpha else math.inf


def _number(value: Any) -> float:
    return float(value)
