"""Guidance: a denoiser that is pushed towards its conditioning, from one that only follows it."""

from __future__ import annotations

import torch
from torch import Tensor

from undiffuse.core.conditioning import Conditioning
from undiffuse.core.errors import SpecError, explain
from undiffuse.diffusion.denoise import Denoise
from undiffuse.diffusion.level import Level


def classifier_free(
    denoise: Denoise,
    negative: Conditioning,
    scale: float,
    rescale: float = 0.0,
    interval: tuple[float, float] = (0.0, 1.0),
) -> Denoise:
    """Push the estimate away from what the negative gives (Ho & Salimans 2022, eq. 6, in x0 space).

    x0 = negative + scale * (positive - negative). eps, v and flow are linear in x0 at a fixed x_t, so this
    is the same as guiding any of them. Both answers come from one call with twice the batch, negative first.

    Args:
        denoise: what is guided.
        negative: one row for all pictures, or a row each.
        scale: 1 asks for the conditional estimate alone.
        rescale: share of the contrast taken back: the guided x0 gets the conditional's standard deviation a
            picture, mixed in by this share (Lin et al. 2024, eq. 15 and 16, there for the net's output).
        interval: guidance works while sigma / (alpha + sigma) lies within (Kynkäänniemi et al. 2024).

    Raises:
        SpecError: when rescale or the interval leave [0, 1].
    """
    low, high = interval
    if not (0 <= low < high <= 1 and 0 <= rescale <= 1):
        given = f"interval = {interval}, rescale = {rescale}"
        raise SpecError(explain(given, "0 <= low < high <= 1 and 0 <= rescale <= 1 are allowed"))

    def guided(x: Tensor, level: Level, cond: Conditioning) -> Tensor:
        if scale == 1 or not low <= _noise_share(level) <= high:
            return denoise(x, level, cond)
        away = negative if len(negative) == len(x) else negative.select([0] * len(x))
        twice = Level(*(torch.cat([v, v]) if isinstance(v, Tensor) and v.ndim else v for v in (level.t, level.alpha, level.sigma)))
        without, towards = denoise(torch.cat([x, x]), twice, Conditioning.cat([away, cond])).chunk(2)
        x0 = without + scale * (towards - without)
        return _restore_contrast(x0, towards, rescale) if rescale else x0

    return guided


def _noise_share(level: Level) -> float:
    sigma, alpha = torch.as_tensor(level.sigma), torch.as_tensor(level.alpha)
    return float((sigma / (alpha + sigma)).mean())


def _restore_contrast(x0: Tensor, towards: Tensor, share: float) -> Tensor:
    dims = tuple(range(1, x0.ndim))
    factor = towards.std(dims, keepdim=True) / x0.std(dims, keepdim=True)
    return x0 * (share * factor + 1 - share)
