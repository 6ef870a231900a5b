"""`SizeConditioner`: how large the picture once was and where it was cut, as Stable Diffusion XL is told.

Source: Podell et al. 2023, section 2.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
from typing import Annotated, Literal, Self

import torch
from pydantic import Field
from tokenizers import Tokenizer

from undiffuse.conditioners.base import ConditionerPart, Fields, PartSpec, Routes, Size, Surroundings
from undiffuse.core.conditioning import Conditioning
from undiffuse.core.errors import DataError, SpecError, explain
from undiffuse.networks.embeddings import sinusoid

COUNTS = {"original_size": 2, "crop": 2, "target_size": 2, "aesthetic": 1}
"""Numbers of each, heights and tops before widths and lefts, as XL was trained."""

AESTHETIC, POOR = 6.0, 2.5  # the score that XL's refiner is asked for when nothing is said, and that it steers away from
Told = Literal["original_size", "crop", "target_size", "aesthetic"]


class SizeSpec(PartSpec):
    """Which numbers are told, and how wide each becomes.

    XL's base model is told two sizes and the crop, its refiner a score in the place of the second size.
    """

    kind: Literal["size"] = "size"
    told: Annotated[tuple[Told, ...], Field(min_length=1)] = ("original_size", "crop", "target_size")
    width: Annotated[int, Field(ge=2, multiple_of=2)] = 256
    factor: Annotated[int, Field(ge=0)] = 0

    def routes(self) -> Routes:
        """A sinusoid for every number."""
        return Routes(vector=self.width * sum(COUNTS[name] for name in self.told))

    def fitted(self, surroundings: Surroundings) -> Self:
        """With the factor of the autoencoder."""
        return self.model_copy(update={"factor": surroundings.factor})

    def build(self, tokenizer: Tokenizer | None) -> SizeConditioner:
        """The part, which has no weights."""
        return SizeConditioner(self.told, self.width, self.factor)


class SizeConditioner(ConditionerPart):
    """Reads `original_size` and `target_size` (height, width), `crop` (top, left) and `aesthetic`, whichever it is told.

    What a row leaves out is the size that is drawn, cut nowhere, with a score of 6. Sizes are known, not wished for: guidance
    compares with the same numbers. The score is wished for: with negative prompts goes one of 2.5, as Stability AI has it.

    Args:
        told: which of them, in order.
        width: features of one number.
        factor: pixels on a side for one latent position.
    """

    stored = False
    guided = False
    against = MappingProxyType({"aesthetic": POOR})

    def __init__(self, told: Sequence[Told], width: int, factor: int) -> None:
        super().__init__()
        if factor < 1:
            raise SpecError(explain(f"factor = {factor}", "that of the autoencoder's latents is needed"))
        self.told = tuple(told)
        self.width = width
        self.factor = factor
        self.fields = self.readings = self.told  # type: ignore[misc]
        self.vector_width = width * sum(COUNTS[name] for name in told)

    def forward(self, rows: Sequence[Fields], size: Size | None = None) -> Conditioning:
        """The vector (B, width x numbers).

        Raises:
            DataError: when a row tells too few or too many numbers.
            SpecError: when a size is left out and none is being drawn.
        """
        numbers = torch.tensor([self._numbers(row, size) for row in rows], device=self.device)  # (B, numbers)
        return Conditioning(vector=sinusoid(numbers.flatten(), self.width).view(len(rows), -1))

    def _numbers(self, row: Fields, size: Size | None) -> list[float]:
        if size is None and any(row.get(name) is None for name in self.told if name.endswith("size")):
            raise SpecError(explain("rows without sizes, and no size", "the size of the latent is needed"))
        drawn = [side * self.factor for side in size or (0, 0)]
        usual = {"original_size": drawn, "crop": [0, 0], "target_size": drawn, "aesthetic": [AESTHETIC]}
        found: list[float] = []
        for name in self.told:
            value = usual[name] if row.get(name) is None else row[name]
            values = list(value) if isinstance(value, Sequence) else [value]
            if len(values) != COUNTS[name] or not all(isinstance(number, int | float) for number in values):
                raise DataError(explain(f"{name} = {value!r}", f"{COUNTS[name]} numbers are needed, height or top first"))
            found += [float(number) for number in values]
        return found
