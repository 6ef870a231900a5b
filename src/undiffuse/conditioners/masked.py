"""`MaskConditioner`: what is around a hole, so that the model can fill it (Rombach et al. 2022, section 4.5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from undiffuse.core.errors import SpecError, explain
from undiffuse.data.masks import SHAPES, MaskShape, draw_mask
from undiffuse.data.records import Example

EVENLY: dict[MaskShape, float] = dict.fromkeys(SHAPES, 1.0)


class MaskSpec(PartSpec):
    """A mask and the latent of the picture behind it; `shapes` weighs the masks that training draws."""

    kind: Literal["mask"] = "mask"
    channels: Annotated[int, Field(ge=0)] = 0
    factor: Annotated[int, Field(ge=0)] = 0
    shapes: Mapping[MaskShape, Annotated[float, Field(ge=0)]] = Field(default=EVENLY, min_length=1)

    def routes(self) -> Routes:
        """The mask, and the latent."""
        return Routes(spatial=1 + self.channels)

    def fitted(self, surroundings: Surroundings) -> Self:
        """With the channels and the factor of the autoencoder."""
        return self.model_copy(update={"channels": surroundings.channels, "factor": surroundings.factor})

    def build(self, tokenizer: Tokenizer | None) -> MaskConditioner:
        """The part, which has no weights."""
        return MaskConditioner(self.channels, self.factor, self.shapes)


class MaskConditioner(ConditionerPart):
    """Reads `image` (3, H, W) and `mask` (1, H, W), 1 where the picture is to be made anew.

    The map holds the mask (1 channel: a latent position with any hidden pixel counts as hidden) and the latent of
    the picture with grey in the hole, in the order of Stable Diffusion's inpainting model. The null hides
    everything. Nothing is guided: what is around the hole stays known in what guidance compares with.
    """

    fields = ("mask",)
    readings = ("hole", "around")
    guided = False

    def __init__(self, channels: int, factor: int, shapes: Mapping[MaskShape, float] = EVENLY) -> None:
        super().__init__()
        if channels < 1 or factor < 1:
            given = f"channels = {channels}, factor = {factor}"
            raise SpecError(explain(given, "those of the autoencoder's latents are needed"))
        self.channels = channels
        self.factor = factor
        self.shapes = dict(shapes)
        self.spatial_channels = 1 + channels

    def forward(self, rows: Sequence[Fields], size: Size | None = None) -> Conditioning:
        """The map (B, 1 + C, h, w)."""
        holes = stack_maps([row.get("hole") for row in rows], (1,), size, self.device, empty=1.0)
        around = stack_maps([row.get("around") for row in rows], (self.channels,), size, self.device)
        return Conditioning(spatial=torch.cat([holes, around], dim=1))

    def embed(self, readings: Batched, there: Tensor, size: Size) -> Conditioning:
        """The same for holes (B, 1, h, w) and latents (B, C, h, w)."""
        said = there[:, None, None, None]
        hole, around = torch.where(said, readings["hole"].float(), 1.0), readings["around"].float() * said
        return Conditioning(spatial=torch.cat([hole, around], dim=1))

    def show(self, example: Example, rng: np.random.Generator) -> dict[str, Any]:
        """The picture with a mask of one of the shapes."""
        height, width = example.pixels.shape[1:]
        return {"image": example.pixels, "mask": draw_mask((height, width), self.shapes, rng)}

    def read(self, given: Sequence[Fields], sight: Sight) -> list[dict[str, Any]]:
        """The mask (1, h, w) in the latent's size, and the latent (C, h, w) of what is around it."""
        masked = [index for index, row in enumerate(given) if row.get("mask") is not None and row.get("image") is not None]
        readings: list[dict[str, Any]] = [{} for _ in given]
        if not masked:
            return readings
        hidden = torch.stack([(given[index]["mask"] > 0).float() for index in masked])  # (M, 1, H, W)
        pixels = torch.stack([given[index]["image"] for index in masked])  # (M, 3, H, W)
        around = sight.encode(pixels * (1 - hidden)).cpu()  # (M, C, h, w)
        for place, index in enumerate(masked):
            readings[index] = {"hole": shrink_mask(hidden[place], self.factor), "around": around[place]}
        return readings


def shrink_mask(mask: Tensor, factor: int) -> Tensor:
    """A mask (1, H, W) in the size of the latent (1, H/f, W/f): 1 wherever any of the f x f pixels is masked."""
    return F.max_pool2d(mask[None], factor)[0]
