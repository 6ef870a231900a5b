"""Guidance: a denoiser that is pushed towards its conditioning, from one that only follows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from undiffuse.core.conditioning import Conditioning
from undiffuse.core.errors import SpecError, explain
from undiffuse.diffusion.denoise import Denoise
from undiffuse.diffusion.level import Level


@dataclass(frozen=True)
class Others:
    """What some pictures follow beside their conditioning, to show several things at once (Liu et al. 2022).

    Row r of `cond` is for picture `owners[r]` and counts `weights[r]` times; the conditioning of picture b itself counts
    `first[b]` times.
    """

    cond: Conditioning
    owners: tuple[int, ...]
    weights: tuple[float, ...]
    first: tuple[float, ...]

    def together(self, less: Tensor, towards: Tensor, more: Tensor) -> tuple[Tensor, Tensor]:
        """The weighted sum of all differences to `less`, and the estimate that it leads to, for each picture (B, ...).

        Args:
            less: what is compared with (B, ...).
            towards: estimates with the conditioning of each picture itself (B, ...).
            more: estimates with these conditionings (R, ...).
        """
        pulls = [weight * difference for weight, difference in zip(self.first, towards - less, strict=True)]
        for owner, weight, answer in zip(self.owners, self.weights, more, strict=True):
            pulls[owner] = pulls[owner] + weight * (answer - less[owner])
        alone = [weight == 1 and owner not in self.owners for owner, weight in enumerate(self.first)]
        joined = [towards[row] if alone[row] else less[row] + pull for row, pull in enumerate(pulls)]
        return torch.stack(pulls), torch.stack(joined)


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
        interval: guidance works in rows whose sigma / (alpha + sigma) lies within (Kynkäänniemi et al. 2024).

    Raises:
        SpecError: when rescale or the interval leave [0, 1], or there are neither one negative nor one a row.
    """
    return stacked(denoise, [(negative, scale)], rescale, interval)


def stacked(
    denoise: Denoise,
    stages: Sequence[tuple[Conditioning, float]],
    rescale: float = 0.0,
    interval: tuple[float, float] = (0.0, 1.0),
    others: Others | None = None,
) -> Denoise:
    """Guidance over several contexts, with a scale each (Brooks et al. 2023, eq. 3, for any number).

    The stages are conditionings that say more and more, each with the scale of what the next one adds; after
    the last stage comes the conditioning itself: x0 = D(c0) + s0 (D(c1) - D(c0)) + s1 (D(c2) - D(c1)) + ...
    All answers come from one call. With one stage this is classifier-free guidance. With `others` the last difference is a
    sum of differences, and what is followed where guidance is off is that sum over the last stage:
    x0 = D(c0) + s0 sum_i w_i (D(c_i) - D(c0)), as A1111 does it.

    Raises:
        SpecError: as `classifier_free` does.
    """
    low, high = interval
    if not (0 <= low < high <= 1 and 0 <= rescale <= 1):
        given = f"interval = {interval}, rescale = {rescale}"
        raise SpecError(explain(given, "0 <= low < high <= 1 and 0 <= rescale <= 1 are allowed"))

    def guided(x: Tensor, level: Level, cond: Conditioning) -> Tensor:
        inside = _inside(level, low, high)
        if others is None and (all(scale == 1 for _, scale in stages) or not inside.any()):
            return denoise(x, level, cond)
        told = [*(_negative_rows(stage, len(x)) for stage, _ in stages), cond]
        asked = [x] * len(told)
        if others is not None:
            asked, told = [*asked, x[list(others.owners)]], [*told, others.cond]
        found = denoise(torch.cat(asked), _repeated(level, len(stages) + 1, others), Conditioning.cat(told))
        *answers, towards = found[: len(x) * (len(stages) + 1)].chunk(len(stages) + 1)
        differences = [more - less for less, more in zip(answers, [*answers[1:], towards], strict=True)]
        if others is not None:
            differences[-1], towards = others.together(answers[-1], towards, found[len(x) * (len(stages) + 1) :])
        x0 = answers[0]
        for (_, scale), difference in zip(stages, differences, strict=True):
            x0 = x0 + scale * difference
        if rescale:
            x0 = _restore_contrast(x0, towards, rescale)
        if inside.all():
            return x0
        return torch.where(inside.to(x.device).view(-1, *([1] * (x.ndim - 1))), x0, towards)

    return guided


def _inside(level: Level, low: float, high: float) -> Tensor:
    """Whether the share of noise lies in the interval, a scalar or (B,)."""
    share = level.sigma / (level.alpha + level.sigma)
    if not isinstance(share, Tensor):
        share = torch.tensor(share, dtype=torch.float64)
    return (low <= share) & (share <= high)


def _repeated(level: Level, times: int, others: Others | None) -> Level:
    """The level of a batch that is repeated, and then of what is asked beside."""
    owners = [] if others is None else list(others.owners)
    values = (level.t, level.alpha, level.sigma)
    return Level(*(torch.cat([v] * times + [v[owners]]) if isinstance(v, Tensor) and v.ndim else v for v in values))


def _negative_rows(negative: Conditioning, count: int) -> Conditioning:
    if len(negative) in (0, count):  # an empty one steers nothing
        return negative
    if len(negative) == 1:
        return negative.select([0] * count)
    given = f"{len(negative)} negatives for {count} pictures"
    raise SpecError(explain(given, "one for all or one each is allowed"))


def _restore_contrast(x0: Tensor, towards: Tensor, share: float) -> Tensor:
    dims = tuple(range(1, x0.ndim))
    factor = towards.std(dims, keepdim=True) / x0.std(dims, keepdim=True)
    return x0 * (share * factor + 1 - share)
