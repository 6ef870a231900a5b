"""`LabelConditioner`: class names through a learned table, beside the time step or as one token."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from difflib import get_close_matches
from itertools import islice
from typing import Annotated, Any, Literal, Self

import torch
from pydantic import Field
from tokenizers import Tokenizer
from torch import Tensor, nn

from undiffuse.conditioners.base import Batched, ConditionerPart, Fields, PartSpec, Routes, Sight, Size, Surroundings, Word
from undiffuse.core.conditioning import Conditioning
from undiffuse.core.errors import SpecError, explain

ROUTES = ("vector", "tokens")
CLASSES_NEEDED = "class sub-folders or a 'label' field are needed"
SHOWN = 5  # labels named in a message


class LabelSpec(PartSpec):
    """Class names through a learned table; the names are those of the data set, the width of tokens that of the others."""

    kind: Literal["label"] = "label"
    classes: tuple[str, ...] = ()
    width: Annotated[int, Field(ge=1)] = 128
    route: Literal["vector", "tokens"] = "vector"

    def routes(self) -> Routes:
        """The width, on the route that was chosen."""
        return Routes(tokens=self.width) if self.route == "tokens" else Routes(vector=self.width)

    def fitted(self, surroundings: Surroundings) -> Self:
        """With the classes of the data set.

        Raises:
            SpecError: when it has none.
        """
        if not (self.classes or surroundings.labels):
            raise SpecError(explain("a conditioner of kind 'label', but the data set names no classes", CLASSES_NEEDED))
        width = surroundings.token_width if self.route == "tokens" else None
        return self.model_copy(update={"classes": self.classes or surroundings.labels, "width": width or self.width})

    def build(self, tokenizer: Tokenizer | None) -> LabelConditioner:
        """The part with a fresh table."""
        return LabelConditioner(self.classes, self.width, route=self.route)


class LabelConditioner(ConditionerPart):
    """Reads `label`; the null is a learned row of its own, the last of the table.

    Args:
        classes: the labels, in the order of their rows.
        width: features of a row.
        route: "vector" fills (B, width), "tokens" fills (B, 1, width).

    Raises:
        SpecError: when a class is named twice, there is none, or the route is unknown.
    """

    fields = ("label",)
    readings = ("label",)
    stored = False

    def __init__(self, classes: Sequence[str], width: int, route: Literal["vector", "tokens"] = "vector") -> None:
        super().__init__()
        if route not in ROUTES:
            raise SpecError(explain(f"route {route!r}", f"there are: {', '.join(ROUTES)}"))
        self.classes = tuple(classes)
        self.route = route
        self._rows = {name: i for i, name in enumerate(self.classes)}
        if not self.classes or len(self._rows) < len(self.classes):
            given = f"{len(self.classes)} classes, {len(self._rows)} different ones"
            raise SpecError(explain(given, "at least one is needed, each named once"))
        self.table = nn.Embedding(len(self.classes) + 1, width)
        self.token_width = width if route == "tokens" else 0
        self.vector_width = width if route == "vector" else 0

    def read(self, given: Sequence[Fields], sight: Sight) -> list[dict[str, Any]]:
        """The label.

        Raises:
            SpecError: for a label that is not among the classes.
        """
        for row in given:
            self.index(row.get("label"))
        return super().read(given, sight)

    def forward(self, rows: Sequence[Fields], size: Size | None = None) -> Conditioning:
        """The vector (B, D) or the single token (B, 1, D) of each row's label.

        Raises:
            SpecError: for a label that is not among the classes.
        """
        indices = [self.index(row.get("label")) for row in rows]
        return self._looked_up(torch.tensor(indices, dtype=torch.long, device=self.device))

    def embed(self, readings: Batched, there: Tensor, size: Size) -> Conditioning:
        """The same for rows of the table (B,)."""
        return self._looked_up(torch.where(there, readings["label"], len(self.classes)))

    def _looked_up(self, indices: Tensor) -> Conditioning:
        learned = self.table(indices)  # (B, D)
        return Conditioning(vector=learned) if self.route == "vector" else Conditioning(tokens=learned[:, None])

    def words(self, row: Fields) -> list[Word]:
        """The label, where it is a token."""
        label = row.get("label")
        return [Word(label, (0,))] if label is not None and self.route == "tokens" else []

    def index(self, label: str | None) -> int:
        """The row of a label; None is the null.

        Raises:
            SpecError: for a label that is not among the classes, with those that look like it.
        """
        if label is None:
            return len(self.classes)
        check_label(label, self._rows)
        return self._rows[label]


def known_labels(parts: Iterable[ConditionerPart]) -> tuple[str, ...]:
    """The labels that a model with these parts reads, whichever of them reads labels; () when none does."""
    return next((part.classes for part in parts if "label" in part.fields), ())


def check_label(label: str, classes: Collection[str]) -> None:
    """Refuse a label that is not among the classes.

    Raises:
        SpecError: with those that look like it.
    """
    if label not in classes:
        raise SpecError(explain(f"unknown label {label!r}", f"this model knows {_suggest(label, classes)}"))


def _suggest(label: str, classes: Collection[str]) -> str:
    by_lower = {name.lower(): name for name in classes}
    close = get_close_matches(str(label).lower(), by_lower, n=SHOWN)
    if close:
        return f"{len(classes)} labels, the nearest: {', '.join(by_lower[name] for name in close)}"
    return f"{len(classes)} labels, the first: {', '.join(islice(classes, SHOWN))}"
