"""Do drawn pictures look like real ones, as a set? KID on the features of EfficientNet-Lite0."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from undiffuse.core.errors import DataError, explain
from undiffuse.core.random import numpy_stream, stream_seed
from undiffuse.data.dataset import Pictures
from undiffuse.data.records import Progress, Row
from undiffuse.evaluation.features import FeatureExtractor, Skip, batches_on_white
from undiffuse.evaluation.report import Figure, Report, bootstrap

LEAST = 2  # pictures on each side


@dataclass(frozen=True)
class FidelityReport(Report):
    """How far drawn pictures are from real ones in distribution; smaller is better, 0 is no difference.

    `kid` is the kernel inception distance with EfficientNet-Lite0 in the place of Inception: it compares with itself
    and with `kid_real` only, which is the same for as many training pictures in the place of the drawn ones. Both
    are against validation pictures. Intervals are over the drawn, or the training, pictures.
    """

    kid: Figure
    kid_real: Figure


class Discrepancy:
    """Squared maximum mean discrepancy of two sets of features under the kernel (x.y / D + 1)^3 (Binkowski et al. 2018, eq. 4).

    Args:
        one, other: features (N, D) and (M, D), two rows each at least.
    """

    def __init__(self, one: Tensor, other: Tensor) -> None:
        one, other = one.double(), other.double()
        self._own = _kernel(one, one).numpy()
        theirs = _kernel(other, other)
        self._theirs = float((theirs.sum() - theirs.trace()) / (len(other) * (len(other) - 1)))
        self._between = _kernel(one, other).mean(1).numpy()

    def value(self, chosen: np.ndarray | None = None) -> float:
        """The unbiased estimate, 0 on average for equal distributions, with rows `chosen` of the first set; all when left out.

        A row that is chosen twice is not compared with itself.
        """
        n = len(self._between)
        times = np.ones(n) if chosen is None else np.bincount(chosen, minlength=n).astype(np.float64)
        pairs = times.sum() ** 2 - (times**2).sum()
        if not pairs:  # one row alone, over and over
            return 0.0
        within = (times @ self._own @ times - (times**2 * np.diagonal(self._own)).sum()) / pairs
        return float(within + self._theirs - 2 * (times @ self._between) / times.sum())

    def figure(self) -> Figure:
        """The estimate with its interval over the first set."""
        return bootstrap(len(self._between), self.value)


def _kernel(a: Tensor, b: Tensor) -> Tensor:
    return (a @ b.T / a.shape[1] + 1) ** 3


def evaluate_fidelity(
    pictures: Pictures,
    draw: Callable[[Sequence[Mapping[str, Any]]], Tensor],
    extractor: FeatureExtractor,
    *,
    fields: Sequence[str],
    classes: Sequence[str] = (),
    size: int,
    count: int,
    seed: int,
    batch: int,
    progress: Progress,
    skip: Skip | None = None,
) -> FidelityReport:
    """Draw as many pictures as there are validation pictures, `count` at most, and compare.

    What each of them is asked for is what its validation picture says: the caption if the model reads any, else the
    label if it knows it, else nothing.

    Args:
        pictures: both splits.
        draw: pictures (B, 3, H, W) for the fields of requests.
        extractor: gives the features.
        fields: what the model reads.
        classes: its labels.
        size: side in pixels.
        seed: of the choice of pictures and of the drawing.
        batch: pictures at once.
        progress: told after every batch.
        skip: told of pictures that cannot be read; when None such a picture is an error.

    Raises:
        DataError: when a split has fewer than two readable pictures.
    """
    chosen = {split: _choice(pictures.rows, split, count, seed) for split in ("val", "train")}
    real = {split: _features(pictures, some, extractor, size, batch, progress, skip) for split, some in chosen.items()}
    for split, features in real.items():
        if len(features) < LEAST:
            given = f"{len(features)} pictures of the {split} split"
            raise DataError(explain(given, f"{LEAST} at least are needed in each", "name a larger data set"))
    rows = [pictures.rows[index] for index in chosen["val"]]
    told = [_told(row, fields, set(classes)) | {"seed": stream_seed("fidelity", seed, k)} for k, row in enumerate(rows)]
    drawn = []
    for start in range(0, len(told), batch):
        drawn.append(extractor(draw(told[start : start + batch])))
        progress(min(start + batch, len(told)), len(told), "drawing")
    return FidelityReport(
        kid=Discrepancy(torch.cat(drawn), real["val"]).figure(),
        kid_real=Discrepancy(real["train"][: len(told)], real["val"]).figure(),
    )


def _choice(rows: Sequence[Row], split: str, count: int, seed: int) -> list[int]:
    """Indices of pictures of a split by chance."""
    found = [index for index, row in enumerate(rows) if row.split == split]
    return [found[place] for place in numpy_stream("fidelity", split, seed).permutation(len(found))[:count]]


def _features(
    pictures: Pictures,
    indices: list[int],
    extractor: FeatureExtractor,
    size: int,
    batch: int,
    progress: Progress,
    skip: Skip | None,
) -> Tensor:
    """Features (N, D) of real pictures on white; of none, no rows."""
    features = [torch.empty(0, 1)]
    done = 0
    for kept, pixels in batches_on_white(pictures, indices, size, batch, skip) if indices else ():
        features.append(extractor(pixels))
        done += len(kept)
        progress(done, len(indices), "real pictures")
    return torch.cat(features[1:] or features)


def _told(row: Row, fields: Sequence[str], classes: set[str]) -> dict[str, Any]:
    if "caption" in fields and row.caption:
        return {"prompt": row.caption}
    if "label" in fields:
        known = [value for value in (row.label, *row.fields.values()) if isinstance(value, str) and value in classes]
        return {"label": known[0]} if known else {}
    return {}
