"""`PixelClassifier`: which class a pixel looks like, from what is near it; fitted in closed form."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from undiffuse.core.errors import DataError, explain
from undiffuse.evaluation.background import to_lab
from undiffuse.evaluation.features import LocalExtractor

WINDOWS = (32, 8)  # local means and deviations are over these fractions of the side
LAB_RANGE = 100.0
SHRINKAGE = 1e-3  # of the mean variance, added to every variance


def local_features(pixels: Tensor, extractor: LocalExtractor) -> Tensor:
    """What pictures (B, 3, H, W) in [-1, 1] are like around every pixel: (B, D, H, W).

    The colour in CIELAB, its mean and its deviation in two windows, and maps of a frozen classifier, enlarged. Where
    in the picture a pixel lies is left out: sky shall be told by its look, not by being at the top.
    """
    size = pixels.shape[-2:]
    lab = to_lab((pixels.permute(0, 2, 3, 1) + 1) / 2).permute(0, 3, 1, 2) / LAB_RANGE  # (B, 3, H, W)
    parts = [lab]
    for fraction in WINDOWS:
        mean, square = (_local_mean(x, 2 * (min(size) // (2 * fraction)) + 1) for x in (lab, lab * lab))
        parts += [mean, (square - mean * mean).clamp_min(0).sqrt()]
    parts += [F.interpolate(found, size, mode="bilinear") for found in extractor.maps(pixels)]
    return torch.cat(parts, dim=1)


def _local_mean(x: Tensor, window: int) -> Tensor:
    """The mean (B, C, H, W) of a square of odd side about each pixel, without what is beyond the edge."""
    half = window // 2
    columns = F.avg_pool2d(x, (window, 1), stride=1, padding=(half, 0), count_include_pad=False)
    return F.avg_pool2d(columns, (1, window), stride=1, padding=(0, half), count_include_pad=False)


@dataclass(frozen=True)
class PixelClassifier:
    """Linear discriminant analysis with all classes taken for equally frequent (Hastie et al. 2009, eq. 4.10).

    `weights` (K, D) and `offsets` (K,) give the scores; classes that were in no picture score minus infinity.
    """

    weights: Tensor
    offsets: Tensor

    def __call__(self, features: Tensor) -> Tensor:
        """The class (B, H, W) of every pixel of features (B, D, H, W)."""
        scores = torch.einsum("kd,bdhw->bkhw", self.weights, features.double())
        return (scores + self.offsets[:, None, None]).argmax(dim=1)

    @property
    def known(self) -> Tensor:
        """Whether each class (K,) was in any picture."""
        return self.offsets.isfinite()


def fit_pixels(shown: Iterable[tuple[Tensor, Tensor]], classes: int) -> PixelClassifier:
    """Fit a classifier in one pass over features (B, D, H, W) and their classes (B, H, W); classes of 255 are passed over.

    Every class weighs the same in the common covariance, however many pixels it has.

    Raises:
        DataError: when no pixel has a class.
    """
    counts = torch.zeros(classes, dtype=torch.float64)
    sums: Tensor | None = None
    squares: Tensor | None = None
    for features, labels in shown:
        rows = features.double().movedim(1, -1)  # (B, H, W, D)
        if sums is None or squares is None:
            width = rows.shape[-1]
            sums, squares = rows.new_zeros(classes, width), rows.new_zeros(classes, width, width)
        for index in labels.unique().tolist():
            if index < classes:
                some = rows[labels == index]  # (N, D)
                counts[index] += len(some)
                sums[index] += some.sum(dim=0)
                squares[index] += some.T @ some
    if sums is None or squares is None or not counts.any():
        raise DataError(explain("no pixel of the maps has a class", "at least one class is needed"))
    there = counts > 0
    means = sums[there] / counts[there, None]  # (K', D)
    covariance = (squares[there] / counts[there, None, None] - means[:, :, None] * means[:, None, :]).mean(dim=0)
    covariance += SHRINKAGE * covariance.diagonal().mean().clamp_min(1e-12) * torch.eye(len(covariance), dtype=torch.float64)
    found = torch.linalg.solve(covariance, means.T).T  # (K', D)
    weights, offsets = sums.new_zeros(sums.shape), sums.new_full((classes,), -torch.inf)
    weights[there], offsets[there] = found, -(found * means).sum(dim=1) / 2
    return PixelClassifier(weights, offsets)
