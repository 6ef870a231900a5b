"""The real pictures that drawn ones are compared with: their features, and how near other features are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from undiffuse.data.dataset import Pictures
from undiffuse.data.records import Progress, Row
from undiffuse.evaluation.features import FeatureExtractor, Skip, batches_on_white
from undiffuse.evaluation.prompts import pair_of


@dataclass(frozen=True)
class References:
    """Real pictures on white.

    `mean` (D,) is the mean of their features, `directions` (N, D) the features less that mean, of length 1;
    `rows[i]` tells what reference i shows, and `indices[i]` its place in the data set.
    """

    mean: Tensor
    directions: Tensor
    rows: list[Row]
    indices: list[int]

    @property
    def concepts(self) -> list[str]:
        """The concept of every reference."""
        return [str(row.fields["concept"]) for row in self.rows]

    @property
    def trained(self) -> Tensor:
        """Whether each reference (N,) is a training picture."""
        return torch.tensor([row.split == "train" for row in self.rows])

    def cosines(self, features: Tensor) -> Tensor:
        """Cosine similarity (Q, N) of features (Q, D) to every picture, about the mean."""
        return F.normalize(features.double() - self.mean, dim=1) @ self.directions.T


def read_references(
    pictures: Pictures,
    extractor: FeatureExtractor,
    *,
    size: int,
    batch: int,
    progress: Progress,
    skip: Skip | None = None,
) -> References:
    """Features of every picture that tells its concept and its style.

    Raises:
        DataError: as `batches_on_white`.
    """
    asked = [index for index, row in enumerate(pictures.rows) if pair_of(row) is not None]
    kept: list[int] = []
    parts: list[Tensor] = []
    for some, pixels in batches_on_white(pictures, asked, size, batch, skip):
        kept += some
        parts.append(extractor(pixels).double())
        progress(len(kept), len(asked), "real pictures")
    features = torch.cat(parts)
    mean = features.mean(dim=0)
    return References(mean, F.normalize(features - mean, dim=1), [pictures.rows[index] for index in kept], kept)


def concept_ranks(cosines: Tensor, references: References, targets: Sequence[str]) -> list[int]:
    """How many concepts come before the right one, 0 when it is the first.

    The score of a concept is the highest cosine (Q, N) of any picture of it. A concept whose score equals
    the right one's comes before it, and so does every concept when a score is no number.
    """
    concepts = sorted(set(references.concepts))
    number = {concept: index for index, concept in enumerate(concepts)}
    columns = torch.tensor([number[concept] for concept in references.concepts])  # (N,)
    scores = cosines.new_full((len(cosines), len(concepts)), -torch.inf)
    scores = scores.scatter_reduce(1, columns.expand(len(cosines), -1), cosines, "amax")  # (Q, C)
    right = scores.gather(1, torch.tensor([[number[target]] for target in targets]))  # (Q, 1)
    return (len(concepts) - 1 - (scores < right).sum(dim=1)).tolist()


def nearest_trained(cosines: Tensor, references: References) -> list[float]:
    """Cosine distance, 0 to 2, from each query of cosines (Q, N) to the nearest training picture."""
    return (1 - cosines[:, references.trained].amax(dim=1)).tolist()
