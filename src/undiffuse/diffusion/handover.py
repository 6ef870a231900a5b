"""One drawing by two denoisers: the first answers where there is much noise, the second where there is little.

Stable Diffusion XL's base model and refiner share it so (Podell et al. 2023, section 2.5; "ensemble of experts" elsewhere).
"""

from __future__ import annotations

from torch import Tensor

from undiffuse.core.conditioning import Conditioning
from undiffuse.diffusion.denoise import Denoise
from undiffuse.diffusion.level import Level
from undiffuse.diffusion.schedule import DiscreteSchedule, Schedule


def handover_time(schedule: Schedule, share: float) -> int:
    """The time below which the second one answers, when the first has this share of the schedule.

    It is that of diffusers' `denoising_end` and `denoising_start`: 200 for 0.8 of a thousand steps.
    """
    whole = schedule.t_max + 1 if isinstance(schedule, DiscreteSchedule) else schedule.t_max
    return round(whole - share * whole)


def handed_over(first: Denoise, second: Denoise, told: Conditioning, time: float) -> Denoise:
    """The first denoiser down to this time, below it the second.

    Both must know the same latents on the same schedule. A solver sees one denoiser: its history goes on, and one that asks
    between two steps gets whoever that level belongs to.

    Args:
        first: gets the conditioning that the whole is called with.
        second: gets `told`, for it may read other things, and other things of the same words.
        told: what steers the second one.
        time: as the nets are told; levels must be scalar, as solvers ask.
    """

    def denoise(x: Tensor, level: Level, cond: Conditioning) -> Tensor:
        return second(x, level, told) if float(level.t) < time else first(x, level, cond)

    return denoise
