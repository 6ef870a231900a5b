"""`Grid`: the levels that a run visits, from most noise to none, in float64 on the host."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from undiffuse.core.errors import SpecError, explain
from undiffuse.core.spec import pick
from undiffuse.diffusion.level import Level
from undiffuse.diffusion.schedule import DiscreteSchedule, Schedule
from undiffuse.diffusion.spacings import SPACINGS

CLEAN = Level(0.0, 1.0, 0.0)


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
        _check_share("strength", strength)
        return self.last(max(1, round(strength * len(self))))

    def nearer(self, share: float) -> Grid:
        """As many steps over the last `share` of the time, each level at that share of its own.

        Raises:
            SpecError: when share is not in (0, 1].
        """
        _check_share("share", share)
        if share == 1:
            return self
        return Grid((*(self.schedule.at(share * float(level.t)) for level in self.levels[:-1]), self.levels[-1]), self.schedule)

    def last(self, steps: int) -> Grid:
        """The last so many steps of the grid, all of them where it has fewer."""
        return Grid(self.levels[-steps - 1 :], self.schedule)

    def between(self, index: int, share: float) -> Level:
        """The level between rows `index` and `index + 1`: sigma / alpha interpolated geometrically, else t linearly."""
        now, following = self.levels[index], self.levels[index + 1]
        ratios = [level.ratio for level in (now, following)]
        if all(0 < value < math.inf for value in ratios):
            return self.schedule.from_ratio(ratios[0] ** (1 - share) * ratios[1] ** share)
        return self.schedule.at(float(now.t) * (1 - share) + float(following.t) * share)


def _check_share(name: str, share: float) -> None:
    if not 0 < share <= 1:
        raise SpecError(explain(f"{name} = {share}", "above 0, up to 1 is allowed"))


def make_grid(schedule: Schedule, steps: int, spacing: str = "trailing", strength: float = 1.0) -> Grid:
    """A grid of `steps` steps.

    | spacing          | times or ratios                                                               |
    |------------------|-------------------------------------------------------------------------------|
    | trailing         | even in t, from the very end of the schedule (Lin et al. 2024, table 2)       |
    | leading          | multiples of T // steps, plus one: the original DDIM; misses the end          |
    | linspace         | even in t, both ends included ("Uniform" of A1111, "normal" of ComfyUI)       |
    | sgm_uniform      | even in t from the last whole step, the first left out (generative-models)    |
    | simple           | every (T / steps)th of the table, from its end, rounded down (ComfyUI)        |
    | ddim_uniform     | as leading, as far as the schedule goes: often a step more (ComfyUI)          |
    | karras           | even in (sigma / alpha)^(1/7) (Karras et al. 2022, eq. 5)                     |
    | exponential      | even in log(sigma / alpha) ("Polyexponential" of A1111 with its rho of 1)     |
    | kl_optimal       | even in arctan(sigma / alpha) (Sabour et al. 2024, theorem 3.1)               |
    | beta             | sigma / alpha at even quantiles of Beta(0.6, 0.6) (A1111, diffusers)          |
    | align_your_steps | optimised for Stable Diffusion 1.5 (Sabour et al. 2024)                       |
    | align_your_steps_xl | the same for XL                                                            |

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
