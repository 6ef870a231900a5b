"""`SmallConditioner`: a small version of the picture, for super-resolution (Rombach et al. 2022, section 4.4).

In training the small picture is noised at random and the model is told by how much, so that it does not trust
every pixel of a real one (Ho et al. 2021, "Cascaded diffusion models", section 4.2).
"""

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
from undiffuse.core.errors import SpecError, explain
from undiffuse.core.random import BatchNoise
from undiffuse.data.records import Example
from undiffuse.networks.embeddings import sinusoid

NOISE = "small_noise"
LEVEL_WIDTH = 32
LEVEL_STEPS = 1000.0  # levels 0 to 1 are embedded like time steps


class SmallSpec(PartSpec):
    """A picture `scale` times smaller; in training its noise has up to `most_noise` of the range of a pixel."""

    kind: Literal["small"] = "small"
    scale: Annotated[int, Field(ge=2)] = 4
    factor: Annotated[int, Field(ge=0)] = 0
    most_noise: Annotated[float, Field(ge=0, le=1)] = 0.3

    def routes(self) -> Routes:
        """The small picture and one channel more; its noise level."""
        return Routes(vector=LEVEL_WIDTH, spatial=3 * _ratio(self.scale, self.factor) ** 2 + 1)

    def fitted(self, surroundings: Surroundings) -> Self:
        """With the factor of the autoencoder."""
        return self.model_copy(update={"factor": surroundings.factor})

    def build(self, tokenizer: Tokenizer | None) -> SmallConditioner:
        """The part, which has no weights."""
        return SmallConditioner(self.scale, self.factor, self.most_noise)


class SmallConditioner(ConditionerPart):
    """Reads `small` (3, H/s, W/s), pixels in [-1, 1], and `small_noise`, how much noise it carries, 0 when left out.

    Small pictures larger than the latent are folded into channels, so that nothing is lost; smaller ones are
    enlarged. One more channel is 1 where a small picture was given at all. The vector is the noise level's sinusoid.
    """

    fields = ("small",)
    readings = ("small",)
    guided = False

    def __init__(self, scale: int, factor: int, most_noise: float) -> None:
        super().__init__()
        if factor < 1:
            raise SpecError(explain(f"factor = {factor}", "that of the autoencoder's latents is needed"))
        if scale % factor and factor % scale:
            allowed = f"a divisor or a multiple of the autoencoder's factor {factor} is needed"
            raise SpecError(explain(f"scale = {scale} of a conditioner of kind 'small'", allowed))
        self.scale = scale
        self.factor = factor
        self.most_noise = most_noise
        self.ratio = _ratio(scale, factor)
        self.spatial_channels = 3 * self.ratio**2 + 1
        self.vector_width = LEVEL_WIDTH

    def forward(self, rows: Sequence[Fields], size: Size | None = None) -> Conditioning:
        """The map (B, 3 r^2 + 1, h, w) and the vector (B, 32)."""
        folded = [None if row.get("small") is None else self._folded(torch.as_tensor(row["small"])[None])[0] for row in rows]
        spatial = stack_maps(folded, (self.spatial_channels,), size, self.device)
        levels = torch.tensor([float(row.get(NOISE) or 0.0) for row in rows], device=self.device)
        return Conditioning(vector=sinusoid(levels * LEVEL_STEPS, LEVEL_WIDTH), spatial=spatial)

    def embed(self, readings: Batched, there: Tensor, size: Size) -> Conditioning:
        """The same for small pictures (B, 3, H/s, W/s) with their noise levels (B,), if they carry noise."""
        levels = readings[NOISE] * there if NOISE in readings else torch.zeros(len(there), device=self.device)
        spatial = self._folded(readings["small"]) * there[:, None, None, None]
        return Conditioning(vector=sinusoid(levels * LEVEL_STEPS, LEVEL_WIDTH), spatial=spatial)

    def _folded(self, small: Tensor) -> Tensor:
        """(B, 3, H/s, W/s) to (B, 3 r^2 + 1, h, w)."""
        small = small.float()
        if self.scale > self.factor:
            small = F.interpolate(small, scale_factor=self.scale / self.factor, mode="bicubic", antialias=True)
        folded = F.pixel_unshuffle(small, self.ratio)
        return torch.cat([folded, torch.ones_like(folded[:, :1])], dim=1)

    def show(self, example: Example, rng: np.random.Generator) -> dict[str, Any]:
        """The picture, `scale` times smaller."""
        return {"small": shrink(example.pixels, self.scale)}

    def read(self, given: Sequence[Fields], sight: Sight) -> list[dict[str, Any]]:
        """The small picture in the size that belongs to the picture to draw."""
        size = (sight.size[0] // self.scale, sight.size[1] // self.scale)
        return [{} if row.get("small") is None else {"small": resized(row["small"], size)} for row in given]

    def vary(self, readings: Batched, noise: BatchNoise) -> Batched:
        """Noise of a random level for each picture, anew at every step."""
        small = readings["small"].float()
        levels = self.most_noise * noise.uniform("level")
        added = levels[:, None, None, None] * noise.normal("noise", small.shape[1:])
        return {**readings, "small": small + added, NOISE: levels}


def shrink(pixels: Tensor, scale: int) -> Tensor:
    """Pixels (3, H, W) as (3, H/s, W/s): bicubic with anti-aliasing."""
    size = (pixels.shape[1] // scale, pixels.shape[2] // scale)
    return resized(pixels, size)


def resized(pixels: Tensor, size: Size) -> Tensor:
    """Pixels (3, H, W) in this height and width: bicubic with anti-aliasing, cut off at black and white."""
    if tuple(pixels.shape[1:]) == size:
        return pixels
    return F.interpolate(pixels[None], size, mode="bicubic", antialias=True)[0].clamp(-1, 1)


def _ratio(scale: int, factor: int) -> int:
    """Pixels of the small picture on a side for one latent position; at least 1."""
    return max(1, factor // scale)
