"""`LowResConditioner`: a small picture under noise of a known level, as Stable Diffusion's x4 upscaler reads it.

The small picture has the size of the latent, and a noise schedule of its own: a little noise, of which the model is
told how much, hides what is wrong with a real one (Ho et al. 2021, "Cascaded diffusion models", section 4.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from tokenizers import Tokenizer
from torch import Tensor

from undiffuse.conditioners.base import Batched, ConditionerPart, Fields, PartSpec, Routes, Sight, Size, Surroundings
from undiffuse.conditioners.small import resized
from undiffuse.conditioners.spatial import stack_maps
from undiffuse.core.conditioning import Conditioning
from undiffuse.core.errors import DataError, SpecError, explain
from undiffuse.core.random import BatchNoise
from undiffuse.data.records import Example
from undiffuse.diffusion.schedule import ScheduleSpec, build_schedule

USUAL = 20  # the noise level that Stability AI and diffusers take when nothing is said
IMAGE_SPACE = ScheduleSpec(kind="scaled_linear", beta_start=0.0001, beta_end=0.02)
LEVEL = "lowres_level"


class LowResSpec(PartSpec):
    """A picture as small as the latent, noised up to level `most` of its own schedule."""

    kind: Literal["lowres"] = "lowres"
    factor: Annotated[int, Field(ge=0)] = 0
    schedule: ScheduleSpec = IMAGE_SPACE
    most: Annotated[int, Field(ge=0)] = 350

    @model_validator(mode="after")
    def _levels_exist(self) -> Self:
        if self.schedule.kind == "flow" or self.most >= self.schedule.steps:
            given = f"most = {self.most} of a schedule {self.schedule.kind!r} of {self.schedule.steps} steps"
            raise ValueError(explain(given, "a level of a schedule in steps is needed"))
        return self

    def routes(self) -> Routes:
        """The small picture; its level, of which one feature each is 1."""
        return Routes(vector=self.schedule.steps, spatial=3)

    def fitted(self, surroundings: Surroundings) -> Self:
        """With the factor of the autoencoder."""
        return self.model_copy(update={"factor": surroundings.factor})

    def build(self, tokenizer: Tokenizer | None) -> LowResConditioner:
        """The part, which has no weights."""
        return LowResConditioner(self.factor, self.schedule, self.most)


class LowResConditioner(ConditionerPart):
    """Reads `small` (3, h, w), pixels in [-1, 1], and `noise_level`, 20 when left out.

    The map is the small picture under noise of this level. The vector tells the level: 1 in its place, 0 elsewhere, so that
    a table of the net's has a row for it. The null is 0 throughout. Nothing is guided: both are known.

    Args:
        factor: of the autoencoder; the picture is so many times larger than the small one.
        schedule: levels of noise, in steps.
        most: the highest level.
    """

    fields = ("small", "noise_level")
    readings = ("lowres", LEVEL)
    needs = ("small",)
    guided = False
    spatial_channels = 3

    def __init__(self, factor: int, schedule: ScheduleSpec = IMAGE_SPACE, most: int = 350) -> None:
        super().__init__()
        if factor < 1:
            raise SpecError(explain(f"factor = {factor}", "that of the autoencoder's latents is needed"))
        self.scale = factor
        self.most = most
        self.usual = min(USUAL, most)
        self.vector_width = schedule.steps
        self._schedule = build_schedule(schedule)

    def forward(self, rows: Sequence[Fields], size: Size | None = None) -> Conditioning:
        """The map (B, 3, h, w) and the vector (B, levels)."""
        spatial = stack_maps([row.get("lowres") for row in rows], (3,), size, self.device)
        there = torch.tensor([row.get("lowres") is not None for row in rows], device=self.device)
        levels = torch.tensor([int(row.get(LEVEL) or 0) for row in rows], device=self.device)
        return Conditioning(vector=self._told(levels, there), spatial=spatial)

    def embed(self, readings: Batched, there: Tensor, size: Size) -> Conditioning:
        """The same for small pictures (B, 3, h, w) with their levels (B,), if they carry noise."""
        levels = readings[LEVEL] if LEVEL in readings else torch.zeros(len(there), device=there.device)
        spatial = readings["lowres"].float() * there[:, None, None, None]
        return Conditioning(vector=self._told(levels, there), spatial=spatial)

    def _told(self, levels: Tensor, there: Tensor) -> Tensor:
        return F.one_hot(levels.long(), self.vector_width).float() * there[:, None]

    def show(self, example: Example, rng: np.random.Generator) -> dict[str, Any]:
        """The picture, as small as its latent."""
        height, width = example.pixels.shape[1:]
        return {"small": resized(example.pixels, (height // self.scale, width // self.scale))}

    def read(self, given: Sequence[Fields], sight: Sight) -> list[dict[str, Any]]:
        """The small picture in the latent's size: under noise for a drawing, as it is for training.

        Raises:
            DataError: when the level is none that the model learned.
        """
        return [{} if row.get("small") is None else self._noised(row, sight) for row in given]

    def _noised(self, row: Fields, sight: Sight) -> dict[str, Any]:
        small = resized(row["small"].float(), (sight.size[0] // self.scale, sight.size[1] // self.scale))
        if sight.noise is None:
            return {"lowres": small}
        told = self.usual if row.get("noise_level") is None else row["noise_level"]
        if not isinstance(told, int) or not 0 <= told <= self.most:
            raise DataError(
                explain(f"noise_level = {told!r}", f"this model learned 0 to {self.most}", f"usual is {self.usual}")
            )
        level = self._schedule.at(told)
        return {"lowres": level.alpha * small + level.sigma * sight.noise(tuple(small.shape)), LEVEL: told}

    def vary(self, readings: Batched, noise: BatchNoise) -> Batched:
        """Noise of a random level for each picture, anew at every step."""
        small = readings["lowres"].float()
        share = noise.uniform("level") * (self.most + 1) / self.vector_width
        level = self._schedule.training_level(share.cpu())
        alpha, sigma, t = (torch.as_tensor(value, device=small.device) for value in (level.alpha, level.sigma, level.t))
        added = sigma[:, None, None, None] * noise.normal("noise", small.shape[1:])
        return {**readings, "lowres": alpha[:, None, None, None] * small + added, LEVEL: t}
