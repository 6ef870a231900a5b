"""Stage two: a denoiser learns to clean noised latents, steered by captions and labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from undiffuse.checkpoints.api import save_model
from undiffuse.conditioners.base import ConditionerPart, Size
from undiffuse.conditioners.combined import merge
from undiffuse.conditioners.labels import LabelConditioner
from undiffuse.conditioners.text import TextConditioner
from undiffuse.core.conditioning import Conditioning
from undiffuse.core.errors import explain
from undiffuse.core.pictures import grid_image
from undiffuse.core.random import normal, numpy_stream
from undiffuse.data.latents import LatentCache
from undiffuse.data.readings import Readings
from undiffuse.data.sampler import slot_index
from undiffuse.diffusion.laws import draw_levels
from undiffuse.diffusion.level import Level
from undiffuse.diffusion.loss import denoising_loss
from undiffuse.generation.generator import Generator
from undiffuse.generation.request import Request
from undiffuse.model.latent_diffusion import LatentDiffusion
from undiffuse.training.objectives.base import Objective, few_pictures
from undiffuse.training.recipe import DiffusionObjective as Terms
from undiffuse.training.recipe import Recipe

Captions = Callable[[Sequence[str]], Conditioning]
PREVIEW_STEPS = 20
PREVIEWS = 16


@dataclass(frozen=True)
class Noised:
    """Normalised latents (B, C, h, w) with everything that a denoising step needs."""

    z: Tensor
    noise: Tensor  # (B, C, h, w)
    level: Level  # (B,) each
    rows: list[dict[str, Any]]  # readings, without those that are dropped


class DiffusionTraining(Objective[Noised]):
    """The denoising loss over a latent cache; the U-Net learns, and all parts of the conditioner but the text encoder.

    Args:
        recipe: of kind "diffusion".
        model: the record whose denoiser is trained in place.
        cache: latents and captions of the data set.
        captions: encodes captions of the cache; None without text.
        readings: what is shown of every rendering to parts that keep arrays; None when no part does.
    """

    def __init__(
        self,
        recipe: Recipe,
        model: LatentDiffusion,
        cache: LatentCache,
        captions: Captions | None,
        readings: Readings | None = None,
    ) -> None:
        terms = recipe.objective
        assert isinstance(terms, Terms)
        self.recipe = recipe
        self.terms = terms
        self.model = model
        self.cache = cache
        self.captions = captions
        self.readings = readings
        self.device = model.device
        self.kinds = dict(zip((spec.kind for spec in model.spec.conditioners), model.conditioner.parts, strict=True))
        self.drops = {spec.kind: spec.drop for spec in model.spec.conditioners}
        learning = {
            kind: part
            for kind, part in self.kinds.items()
            if not isinstance(part, TextConditioner) and next(part.parameters(), None) is not None
        }
        learner = nn.ModuleDict({"network": model.denoiser.network, **learning})
        self.players = {"denoiser": learner.train().requires_grad_(True)}
        shift, scale = model.codec.shift.cpu(), model.codec.scale.cpu()
        self._normalise: Callable[[Tensor], Tensor] = lambda mean: (mean - shift) * scale

    def batch(self, step: int, slots: range) -> Noised:
        """Latents, noise, levels and conditioning for these slots; each slot has streams of its own."""
        seed, size = self.recipe.run.seed, self.recipe.run.batch
        indices, variants, rows, noise = [], [], [], []
        for slot in slots:
            rng = numpy_stream("diffusion", seed, step, slot)
            indices.append(slot_index(seed, step, slot, size, len(self.cache))[1])
            variants.append(int(rng.integers(self.cache.variants)))
            rows.append(self._row(indices[-1], variants[-1], rng))
            noise.append(normal(self.cache.shape, "noise", seed, step, slot))
        levels = draw_levels(self.terms.law, self.model.schedule, size, "level", seed, step)
        z = self._normalise(self.cache.latents(indices, variants))
        return Noised(z, torch.stack(noise), _rows(levels, slots), rows)

    def _row(self, index: int, variant: int, rng: np.random.Generator) -> dict[str, Any]:
        """What the net is told of a rendering: all of its readings but those that are dropped."""
        row: dict[str, Any] = {"caption": self.cache.captions[index][variant], "label": self._label(index)}
        if self.readings is not None:
            row.update(self.readings.row(index, variant))
        silent = bool(rng.random() < self.terms.drop)
        dropped = [
            part
            for kind, part in self.kinds.items()
            if (silent and part.guided) or (self.drops[kind] and rng.random() < self.drops[kind])
        ]
        row = self.model.conditioner.without(row, dropped)
        for part in self.kinds.values():
            if part.stored and any(name in row for name in part.readings):
                row = dict(part.vary(row, rng))
        return row

    def _label(self, index: int) -> str | None:
        """The label of a picture; None where the model that the run goes on from has no such class."""
        label, part = self.cache.labels[index], self.kinds.get("label")
        return label if isinstance(part, LabelConditioner) and label in part.classes else None

    def loss(self, player: str, batch: Noised, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean weighted denoising loss over the batch."""
        z = batch.z.to(self.device, memory_format=torch.channels_last)
        noise = batch.noise.to(self.device, memory_format=torch.channels_last)
        losses = denoising_loss(
            self.model.denoiser.network,
            z,
            self._cond(batch),
            batch.level.expand(len(z), self.device),
            noise,
            self.model.denoiser.prediction,
            self.terms.weighting,
        )
        return losses.mean(), {"loss": losses.mean()}

    def compile(self) -> None:
        """Compile the U-Net alone: what is around it costs next to nothing."""
        self.model.denoiser.network.compile()

    def _cond(self, batch: Noised) -> Conditioning:
        size = (batch.z.shape[2], batch.z.shape[3])
        return merge([self._part_cond(part, batch.rows, size) for part in self.kinds.values()])

    def _part_cond(self, part: ConditionerPart, rows: list[dict[str, Any]], size: Size) -> Conditioning:
        """The conditioning of one part; captions are encoded already."""
        if isinstance(part, TextConditioner) and self.captions is not None:
            return self.captions([row.get("caption") or "" for row in rows]).to(self.device)
        return part(rows, size)

    def describe(self) -> dict[str, Any]:
        """Pictures, and sizes of the nets."""
        return {"pictures": len(self.cache), **super().describe()}

    def warnings(self) -> list[str]:
        """Few pictures, or none with words."""
        found = few_pictures(len(self.cache)) if self.terms.start is None else []
        if self.captions is not None and not any(caption for row in self.cache.captions for caption in row):
            given = "no picture has a caption, so the model learns how they look but no words for them"
            found.append(explain(given, '--set "data.caption=my dog" gives all of them one'))
        return found

    def preview(self, step: int) -> Image.Image:
        """The recipe's prompts, or the first captions of the cache, or else classes, drawn from fixed seeds."""
        draw = Generator(self.model, device=str(self.device), precision="fp32", tell=None)
        prompts = self.terms.preview_prompts or tuple(row[0] for row in self.cache.captions[:PREVIEWS])
        if self.captions is None:
            prompts = ("",) * PREVIEWS
        part = self.kinds.get("label")
        classes = part.classes if self.captions is None and isinstance(part, LabelConditioner) else (None,)
        labels = [classes[index % len(classes)] for index in range(len(prompts))]
        told = enumerate(zip(prompts, labels, strict=True))
        requests = [Request(prompt, label=label, steps=PREVIEW_STEPS, seed=index) for index, (prompt, label) in told]
        return grid_image([image for result in draw.many(requests) for image in result.images])

    def export(self, folder: Path) -> None:
        """Write the whole model, frozen parts included."""
        save_model(self.model, folder)


def _rows(level: Level, slots: range) -> Level:
    part = slice(slots.start, slots.stop)
    t, alpha, sigma = (torch.as_tensor(value)[part] for value in (level.t, level.alpha, level.sigma))
    return Level(t, alpha, sigma)
