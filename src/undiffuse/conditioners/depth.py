"""`DepthConditioner`: how near everything is, beside the latent, as Stable Diffusion 2's depth model reads it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from tokenizers import Tokenizer
from torch import Tensor

from undiffuse.conditioners.base import Batched, ConditionerPart, Fields, PartSpec, Routes, Sight, Size, Surroundings
from undiffuse.conditioners.spatial import stack_maps
from undiffuse.core.conditioning import Conditioning
from undiffuse.core.errors import DataError, SpecError, explain
from undiffuse.data.records import Example


class DepthSpec(PartSpec):
    """A depth map in the latent's size."""

    kind: Literal["depth"] = "depth"
    factor: Annotated[int, Field(ge=0)] = 0

    def routes(self) -> Routes:
        """One channel."""
        return Routes(spatial=1)

    def fitted(self, surroundings: Surroundings) -> Self:
        """With the factor of the autoencoder."""
        return self.model_copy(update={"factor": surroundings.factor})

    def build(self, tokenizer: Tokenizer | None) -> DepthConditioner:
        """The part, which has no weights."""
        return DepthConditioner(self.factor)


class DepthConditioner(ConditionerPart):
    """Reads `depth` (1, H, W) in any size and any unit, more where it is nearer.

    The map is brought to the latent's size and to [-1, 1], of every picture from its farthest to its nearest place. The
    null, of rows that say nothing, is 0 everywhere. Nothing is guided: depth is known in what guidance compares with.
    """

    fields = ("depth",)
    readings = ("depth",)
    needs = ("depth",)
    guided = False
    spatial_channels = 1

    def __init__(self, factor: int) -> None:
        super().__init__()
        if factor < 1:
            raise SpecError(explain(f"factor = {factor}", "that of the autoencoder's latents is needed"))
        self.factor = factor

    def forward(self, rows: Sequence[Fields], size: Size | None = None) -> Conditioning:
        """The map (B, 1, h, w)."""
        return Conditioning(spatial=stack_maps([row.get("depth") for row in rows], (1,), size, self.device))

    def embed(self, readings: Batched, there: Tensor, size: Size) -> Conditioning:
        """The same for maps (B, 1, h, w)."""
        return Conditioning(spatial=readings["depth"].float() * there[:, None, None, None])

    def show(self, example: Example, rng: np.random.Generator) -> dict[str, Any]:
        """The depth map that an example carries.

        Raises:
            DataError: when it carries none.
        """
        depth = example.fields.get("depth")
        if depth is None:
            given = "a conditioner of kind 'depth', and training pictures without depth maps"
            raise DataError(explain(given, "depth is not estimated", "leave the conditioner out"))
        return {"depth": torch.as_tensor(depth).float()}

    def read(self, given: Sequence[Fields], sight: Sight) -> list[dict[str, Any]]:
        """Depth (1, h, w) in [-1, 1].

        Raises:
            DataError: when what was given is no map.
        """
        size = (sight.size[0] // self.factor, sight.size[1] // self.factor)
        return [{} if row.get("depth") is None else {"depth": nearness(row["depth"], size)} for row in given]


def nearness(depth: Any, size: Size) -> Tensor:
    """A map (1, H, W), or pixels (3, H, W), in this size (1, h, w): bicubic, then from -1 farthest to 1 nearest.

    A map that is the same everywhere becomes 0.

    Raises:
        DataError: when it is neither.
    """
    if not isinstance(depth, Tensor) or depth.ndim != 3 or len(depth) not in (1, 3):
        raise DataError(explain("a depth that is no picture", "a map is needed, white where near", "pass a picture"))
    levels = F.interpolate(depth.float().mean(0, keepdim=True)[None], size, mode="bicubic")[0]  # (1, h, w)
    low, high = levels.min(), levels.max()
    return torch.zeros_like(levels) if low == high else 2 * (levels - low) / (high - low) - 1
