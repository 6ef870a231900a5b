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
class Directions:
    """Where features point from their mean: `mean` (D,), and `directions` (N, D), the features less that, of length 1."""

    mean: Tensor
    directions: Tensor

    def cosines(self, features: Tensor) -> Tensor:
        """Cosine similarity (Q, N) of features (Q, D) to every picture, about the mean."""
        return self.towards(features) @ self.directions.T

    def towards(self, features: Tensor) -> Tensor:
        """Where features (Q, D) point from the mean: (Q, D) of length 1."""
        return F.normalize(features.double() - self.mean, dim=1)


def directions_of(features: Tensor) -> Directions:
    """The directions of features (N, D)."""
    features = features.double()
    mean = features.mean(dim=0)
    return Directions(mean, F.normalize(features - mean, dim=1))


@dataclass(frozen=True)
class References(Directions):
    """Real pictures on white; `rows[i]` tells what reference i shows, and `indices[i]` its place in the data set."""

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
    found = directions_of(torch.cat(parts))
    return References(found.mean, found.directions, [pictures.rows[index] for index in kept], kept)


def concept_ranks(cosines: Tensor, references: References, targets: Sequence[str]) -> list[int]:
    """`ranks` of the right concept among those of the references."""
    return ranks(cosines, references.concepts, targets)


def ranks(cosines: Tensor, names: Sequence[str], targets: Sequence[str]) -> list[int]:
    """How many names come before the right one, 0 when it is the first.

    The score of a name is the highest cosine (Q, N) of any of the N pictures that bear it. A name whose score
    equals the right one's comes before it, and so does every name when a score is no number.
    """
    different = sorted(set(names))
    number = {name: index for index, name in enumerate(different)}
    columns = torch.tensor([number[name] for name in names])  # (N,)
    scores = cosines.new_full((len(cosines), len(different)), -torch.inf)
    scores = scores.scatter_reduce(1, columns.expand(len(cosines), -1), cosines, "amax")  # (Q, C)
    right = scores.gather(1, torch.tensor([[number[target]] for target in targets]))  # (Q, 1)
    return (len(different) - 1 - (scores < right).sum(dim=1)).tolist()


def nearest_trained(cosines: Tensor, references: References) -> list[float]:
    """Cosine distance, 0 to 2, from each query of cosines (Q, N) to the nearest training picture."""
    return (1 - cosines[:, references.trained].amax(dim=1)).tolist()


def nearer_than_variants(cosines: Tensor, references: References) -> list[bool]:
    """Whether each query of cosines (Q, N) is nearer to a training picture than its variants are.

    A picture's variants are the other training pictures of its concept; of any concept, where it has none.
    """
    trained, concepts = references.trained, references.concepts
    everything = trained.nonzero().flatten().tolist()
    of_concept: dict[str, list[int]] = {}
    for place in everything:
        of_concept.setdefault(concepts[place], []).append(place)
    near, places = cosines.masked_fill(~trained, -torch.inf).max(dim=1)  # (Q,)
    found = []
    for cosine, place in zip(near.tolist(), places.tolist(), strict=True):
        same = of_concept[concepts[place]]
        others = [other for other in (same if len(same) > 1 else everything) if other != place]
        to_others = references.directions[others] @ references.directions[place]
        found.append(cosine > float(to_others.max()) if others else True)
    return found
