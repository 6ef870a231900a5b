"""`LookalikeConditioner`: "something like this picture", through the features of a frozen classifier."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from tokenizers import Tokenizer
from torch import Tensor, nn

from undiffuse.conditioners.base import Batched, ConditionerPart, Fields, PartSpec, Routes, Sight, Size, Surroundings, Word
from undiffuse.core.conditioning import Conditioning
from undiffuse.core.errors import SpecError, explain
from undiffuse.data.records import Example


class LookalikeSpec(PartSpec):
    """Another picture's features (EfficientNet-Lite0: 1,280) as a vector, or as `count` tokens."""

    kind: Literal["lookalike"] = "lookalike"
    features: Annotated[int, Field(ge=1)] = 1280
    width: Annotated[int, Field(ge=1)] = 256
    route: Literal["vector", "tokens"] = "vector"
    count: Annotated[int, Field(ge=1)] = 4

    def routes(self) -> Routes:
        """The width, on the route that was chosen."""
        return Routes(tokens=self.width) if self.route == "tokens" else Routes(vector=self.width)

    def fitted(self, surroundings: Surroundings) -> Self:
        """With tokens as wide as those of the other parts."""
        width = surroundings.token_width if self.route == "tokens" else None
        return self.model_copy(update={"width": width or self.width})

    def build(self, tokenizer: Tokenizer | None) -> LookalikeConditioner:
        """The part with a fresh projection."""
        return LookalikeConditioner(self.features, self.width, self.count if self.route == "tokens" else None)


class LookalikeConditioner(ConditionerPart):
    """Reads `like` (3, H, W); features are brought to length 1 and projected. The null is a learned row of its own.

    Args:
        features: of the frozen classifier.
        width: of the vector or of a token.
        count: tokens; None for a vector.
    """

    fields = ("like",)
    readings = ("like",)

    def __init__(self, features: int, width: int, count: int | None) -> None:
        super().__init__()
        self.count = count
        self.width = width
        self.project = nn.Linear(features, width * (count or 1))
        self.nothing = nn.Parameter(torch.zeros(width * (count or 1)))
        self.token_width = width if count else 0
        self.vector_width = 0 if count else width

    def forward(self, rows: Sequence[Fields], size: Size | None = None) -> Conditioning:
        """The vector (B, D) or the tokens (B, count, D)."""
        said = [row.get("like") for row in rows]
        empty = torch.zeros(self.project.in_features)
        features = torch.stack([empty if value is None else torch.as_tensor(value).float() for value in said])
        there = torch.tensor([value is not None for value in said], device=self.device)
        return self.embed({"like": features.to(self.device)}, there, size or (1, 1))

    def embed(self, readings: Batched, there: Tensor, size: Size) -> Conditioning:
        """The same for features (B, F)."""
        unit = F.normalize(readings["like"].float(), dim=1) * self.project.in_features**0.5  # (B, F)
        learned = torch.where(there[:, None], self.project(unit.to(self.project.weight.dtype)), self.nothing)  # (B, count * D)
        if self.count is None:
            return Conditioning(vector=learned)
        return Conditioning(tokens=learned.view(len(there), self.count, self.width))

    def words(self, row: Fields) -> list[Word]:
        """The picture, where it is tokens."""
        return [Word("the picture to resemble", tuple(range(self.count)))] if self.count and row.get("like") is not None else []

    def show(self, example: Example, rng: np.random.Generator) -> dict[str, Any]:
        """The picture itself."""
        return {"like": example.pixels}

    def read(self, given: Sequence[Fields], sight: Sight) -> list[dict[str, Any]]:
        """The picture's features (F,).

        Raises:
            SpecError: when the classifier gives another number of features than the part was made for.
        """
        shown = [None if row.get("like") is None else sight.describe(row["like"][None])[0].cpu() for row in given]
        wrong = next((len(seen) for seen in shown if seen is not None and len(seen) != self.project.in_features), None)
        if wrong is not None:
            given_features = f"features = {self.project.in_features} of a conditioner of kind 'lookalike'"
            raise SpecError(explain(given_features, f"the classifier gives {wrong}", "leave it out"))
        return [{} if seen is None else {"like": seen} for seen in shown]
