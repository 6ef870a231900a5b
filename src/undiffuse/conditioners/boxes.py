"""`BoxesConditioner`: what stands where, as tokens: layout to image (Rombach et al. 2022, section 4.3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

import numpy as np
import torch
from pydantic import Field
from tokenizers import Tokenizer
from torch import Tensor, nn

from undiffuse.conditioners.base import Batched, ConditionerPart, Fields, PartSpec, Routes, Sight, Size, Surroundings, Word
from undiffuse.core.conditioning import Conditioning
from undiffuse.core.errors import DataError, SpecError, explain
from undiffuse.data.records import Example
from undiffuse.networks.embeddings import EmbeddingMLP, sinusoid

SIDES = 4
SIDE_WIDTH = 32
SIDE_STEPS = 1000.0  # fractions 0 to 1 are embedded like time steps
NONE = -1


class BoxesSpec(PartSpec):
    """Up to `most` boxes with labels out of `classes`, a token each."""

    kind: Literal["boxes"] = "boxes"
    classes: tuple[str, ...] = ()
    width: Annotated[int, Field(ge=1)] = 128
    most: Annotated[int, Field(ge=1)] = 8

    def routes(self) -> Routes:
        """A token for every box, and one more."""
        return Routes(tokens=self.width)

    def fitted(self, surroundings: Surroundings) -> Self:
        """With the labels of the data set's boxes, and tokens as wide as those of the other parts.

        Raises:
            SpecError: when the data set has no boxes.
        """
        if not (self.classes or surroundings.box_labels):
            given = "a conditioner of kind 'boxes', but no picture of the data set has any"
            raise SpecError(explain(given, "a field 'boxes' of [left, top, right, bottom, label] is needed"))
        classes = self.classes or surroundings.box_labels
        return self.model_copy(update={"classes": classes, "width": surroundings.token_width or self.width})

    def build(self, tokenizer: Tokenizer | None) -> BoxesConditioner:
        """The part with a fresh table."""
        return BoxesConditioner(self.classes, self.width, self.most)


class BoxesConditioner(ConditionerPart):
    """Reads `boxes`: [left, top, right, bottom, label] each, sides as fractions 0 to 1 of the picture's.

    A box is one token: the sinusoids of its sides and its label's row of a learned table, through a small net (Li et
    al. 2023, "GLIGEN", eq. 5; the paper spends three tokens on the same). A first token, learned, is always there:
    it alone is the null.

    Args:
        classes: the labels, in the order of their rows.
        width: features of a token.
        most: boxes at most; the largest are kept.
    """

    fields = ("boxes",)
    readings = ("boxes", "box_labels")

    def __init__(self, classes: Sequence[str], width: int, most: int) -> None:
        super().__init__()
        self.classes = tuple(classes)
        self._rows = {name: index for index, name in enumerate(self.classes)}
        if not self.classes or len(self._rows) < len(self.classes):
            raise SpecError(explain(f"{len(self.classes)} box labels", "at least one is needed, each named once"))
        self.most = most
        self.token_width = width
        self.table = nn.Embedding(len(self.classes), width)
        self.mix = EmbeddingMLP(width + SIDES * SIDE_WIDTH, width)
        self.first = nn.Parameter(torch.zeros(width))

    def forward(self, rows: Sequence[Fields], size: Size | None = None) -> Conditioning:
        """Tokens (B, 1 + most, D) and their mask (B, 1 + most)."""
        sides = torch.stack([_filled(row.get("boxes"), (self.most, SIDES), 0.0) for row in rows]).to(self.device)
        labels = torch.stack([_filled(row.get("box_labels"), (self.most,), NONE) for row in rows]).to(self.device)
        said = torch.ones(len(rows), dtype=torch.bool, device=self.device)
        return self.embed({"boxes": sides, "box_labels": labels}, said, size or (1, 1))

    def embed(self, readings: Batched, there: Tensor, size: Size) -> Conditioning:
        """The same for sides (B, most, 4) and rows of labels (B, most)."""
        sides, labels = readings["boxes"].float(), torch.where(there[:, None], readings["box_labels"].long(), NONE)
        told = labels != NONE  # (B, most)
        waves = sinusoid(sides.flatten() * SIDE_STEPS, SIDE_WIDTH).view(*sides.shape[:2], -1)  # (B, most, 4 * 32)
        mixed = self.mix(torch.cat([self.table(labels.clamp_min(0)), waves.to(self.first.dtype)], dim=2))  # (B, most, D)
        tokens = torch.cat([self.first.expand(len(told), 1, -1), mixed * told[..., None]], dim=1)
        return Conditioning(tokens=tokens, token_mask=torch.cat([torch.ones_like(told[:, :1]), told], dim=1))

    def words(self, row: Fields) -> list[Word]:
        """The label of every box, told apart from words of a prompt."""
        labels = row.get("box_labels")
        told = [] if labels is None else torch.as_tensor(labels).tolist()
        return [Word(f"{self.classes[int(label)]} (box)", (1 + place,)) for place, label in enumerate(told) if label != NONE]

    def show(self, example: Example, rng: np.random.Generator) -> dict[str, Any]:
        """The boxes of the example; those with a label that the model does not know are left out, as unknown classes are."""
        return {"boxes": [box for box in example.fields.get("boxes") or () if box[-1] in self._rows]}

    def read(self, given: Sequence[Fields], sight: Sight) -> list[dict[str, Any]]:
        """Sides (most, 4) and rows of labels (most,), -1 where there is no box.

        Raises:
            DataError: for a box that is none, or a label that is not among the classes.
        """
        return [self._read(row["boxes"]) if row.get("boxes") else {} for row in given]

    def _read(self, boxes: Sequence[Any]) -> dict[str, Any]:
        checked = sorted((self._checked(box) for box in boxes), key=_area, reverse=True)[: self.most]
        sides, labels = torch.zeros(self.most, SIDES), torch.full((self.most,), NONE, dtype=torch.int16)
        for place, (*box, label) in enumerate(checked):
            sides[place] = torch.tensor(box)
            labels[place] = self._rows[label]
        return {"boxes": sides, "box_labels": labels}

    def _checked(self, box: Any) -> tuple[float, float, float, float, str]:
        allowed = "[left, top, right, bottom, label] with 0 <= left < right <= 1 and 0 <= top < bottom <= 1 is needed"
        try:
            left, top, right, bottom, label = box
            left, top, right, bottom = float(left), float(top), float(right), float(bottom)
        except (TypeError, ValueError):
            raise DataError(explain(f"the box {box!r}", allowed)) from None
        if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
            raise DataError(explain(f"the box {box!r}", allowed))
        if label not in self._rows:
            some = ", ".join(self.classes[:5])
            raise DataError(explain(f"the box label {label!r}", f"this model knows {len(self.classes)}, the first: {some}"))
        return left, top, right, bottom, label


def _area(box: tuple[float, float, float, float, str]) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _filled(value: Any, shape: tuple[int, ...], empty: float) -> Tensor:
    return torch.full(shape, float(empty)) if value is None else torch.as_tensor(value).float()
