"""How faithfully an autoencoder gives pictures back: PSNR, SSIM, distance of features."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from undiffuse.core.random import numpy_stream
from undiffuse.data.dataset import Pictures
from undiffuse.data.records import Progress
from undiffuse.evaluation.features import FeatureExtractor, Skip, batches_on_white
from undiffuse.evaluation.report import Figure, Report, mean

RoundTrip = Callable[[Tensor], Tensor]
"""Pictures (B, 3, H, W) in [-1, 1] through the autoencoder and back; a `Codec` is one."""

PSNR_CAP = 100.0  # decibels, reached when nothing differs
SSIM_WINDOW = 11
SSIM_SIGMA = 1.5
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


@dataclass(frozen=True)
class AutoencoderReport(Report):
    """Means over pictures.

    `psnr` is in decibels over RGB, `ssim` is measured on luma, and `feature_distance` is the cosine distance
    of EfficientNet-Lite0 features, 0 for equal ones.
    """

    psnr: Figure
    ssim: Figure
    feature_distance: Figure


def evaluate_autoencoder(
    dataset: Pictures,
    round_trip: RoundTrip,
    extractor: FeatureExtractor,
    *,
    size: int,
    count: int | None = None,
    seed: int = 0,
    batch: int = 16,
    progress: Progress | None = None,
    skip: Skip | None = None,
) -> AutoencoderReport:
    """Compare pictures, drawn on white, with what the autoencoder makes of them.

    Args:
        dataset: usually the validation split.
        round_trip: encodes and decodes.
        extractor: gives the features.
        size: side in pixels at which pictures are compared.
        count: how many pictures, chosen by `seed`; all of them by default.
        seed: of the choice.
        batch: pictures at once; it does not change a figure.
        progress: told after every batch.
        skip: told of pictures that cannot be read; when None such a picture is an error.

    Raises:
        DataError: when the data set is empty, a picture cannot be read and nobody is told, or none can be read.
    """
    chosen = numpy_stream("evaluate", "autoencoder", seed).permutation(len(dataset.rows))[:count].tolist()
    tell = progress or (lambda done, total, what: None)
    ratios: list[float] = []
    similarities: list[float] = []
    distances: list[float] = []
    for _, original in batches_on_white(dataset, chosen, size, batch, skip):
        with torch.no_grad():
            rebuilt = round_trip(original).float().cpu().clamp(-1, 1)
        ratios += psnr(original, rebuilt).tolist()
        similarities += ssim(original, rebuilt).tolist()
        distances += (1 - F.cosine_similarity(extractor(original), extractor(rebuilt))).tolist()
        tell(len(ratios), len(chosen), "round trips")
    return AutoencoderReport(psnr=mean(ratios), ssim=mean(similarities), feature_distance=mean(distances))


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Peak signal-to-noise ratio (B,) in decibels of RGB pictures (B, 3, H, W) in [-1, 1], at most 100."""
    error = (a - b).double().square().mean(dim=(1, 2, 3)) / 4  # the peak is 2
    return (-10 * torch.log10(error)).clamp(max=PSNR_CAP)


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Structural similarity (B,) of pictures (B, 3, H, W) in [-1, 1], on luma (Wang et al. 2004, eq. 13).

    Gaussian window of 11 pixels and sigma 1.5, K1 = 0.01, K2 = 0.03, averaged over the windows that lie
    wholly inside the picture; both sides must have at least 11 pixels.
    """
    x, y = _luma(a), _luma(b)  # (B, 1, H, W) in [0, 1]
    mean_x, mean_y = _blur(x), _blur(y)  # (B, 1, H-10, W-10)
    var_x = _blur(x * x) - mean_x**2
    var_y = _blur(y * y) - mean_y**2
    cov = _blur(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * cov + c2) / (var_x + var_y + c2)
    return (luminance * structure).mean(dim=(1, 2, 3))


def _luma(pixels: Tensor) -> Tensor:
    weights = torch.tensor(LUMA, dtype=torch.float64, device=pixels.device).view(1, 3, 1, 1)
    return (((pixels.double() + 1) / 2) * weights).sum(dim=1, keepdim=True)


def _blur(x: Tensor) -> Tensor:
    offsets = torch.arange(SSIM_WINDOW, dtype=x.dtype, device=x.device) - SSIM_WINDOW // 2
    window = torch.exp(-(offsets**2) / (2 * SSIM_SIGMA**2))
    window = window / window.sum()
    return F.conv2d(F.conv2d(x, window.view(1, 1, -1, 1)), window.view(1, 1, 1, -1))
