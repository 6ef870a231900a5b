"""Stage two: a denoiser learns to clean noised latents, steered by captions and labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from undiffuse.checkpoints.api import save_model
from undiffuse.conditioners.base import Batched
from undiffuse.conditioners.combined import merge
from undiffuse.conditioners.labels import LabelConditioner
from undiffuse.conditioners.text import TextConditioner
from undiffuse.core.conditioning import Conditioning
from undiffuse.core.errors import explain
from undiffuse.core.pictures import grid_image
from undiffuse.core.random import BatchNoise
from undiffuse.data.latents import LatentCache
from undiffuse.data.readings import Readings
from undiffuse.data.sampler import batch_indices
from undiffuse.diffusion.laws import draw_levels
from undiffuse.diffusion.level import Level
from undiffuse.diffusion.loss import denoising_loss
from undiffuse.generation.generator import Generator
from undiffuse.generation.request import Request
from undiffuse.model.latent_diffusion import LatentDiffusion
from undiffuse.training.captions import CaptionCache
from undiffuse.training.objectives.base import Objective, few_pictures
from undiffuse.training.recipe import DiffusionObjective as Terms
from undiffuse.training.recipe import Recipe
from undiffuse.training.shelf import Shelf

PREVIEW_STEPS = 20
PREVIEWS = 16


@dataclass(frozen=True)
class Noised:
    """Normalised latents (B, C, h, w) with everything that a denoising step needs."""

    z: Tensor
    noise: Tensor  # (B, C, h, w)
    level: Level  # (B,) each
    places: Tensor  # (B,) which renderings of which pictures, as the shelf counts them
    said: dict[str, Tensor]  # (B,) by kind of conditioner: whether it is told, not dropped or missing
    readings: dict[str, Batched]  # by kind of conditioner, what is kept beside the latents for it


class DiffusionTraining(Objective[Noised]):
    """The denoising loss over a latent cache; the U-Net learns, and all parts of the conditioner but the text encoder.

    Args:
        recipe: of kind "diffusion".
        model: the record whose denoiser is trained in place.
        caches: latents and captions, of one data set each.
        captions: encodes captions of all of them; None without text.
        readings: of every cache, what is shown of its renderings to parts that keep arrays; empty when no part does.
    """

    def __init__(
        self,
        recipe: Recipe,
        model: LatentDiffusion,
        caches: Sequence[LatentCache],
        captions: CaptionCache | None,
        readings: Sequence[Readings] = (),
    ) -> None:
        terms = recipe.objective
        assert isinstance(terms, Terms)
        self.recipe = recipe
        self.terms = terms
        self.model = model
        self.caches = caches
        self.captions = captions
        self.device = model.device
        self.kinds = dict(zip((spec.kind for spec in model.spec.conditioners), model.conditioner.parts, strict=True))
        self.drops = {spec.kind: spec.drop for spec in model.spec.conditioners}
        learning = {
            kind: part
            for kind, part in self.kinds.items()
            if not (part.frozen or isinstance(part, TextConditioner)) and next(part.parameters(), None) is not None
        }
        learner = nn.ModuleDict({"network": model.denoiser.network, **learning})
        self.players = {"denoiser": learner.train().requires_grad_(True)}
        self.shelf = Shelf(caches, captions, readings, self.kinds, self.device)

    def batch(self, step: int, slots: range) -> Noised:
        """Latents, noise, levels and readings for these slots, functions of (seed, step, slot), where the nets are."""
        seed, size = self.recipe.run.seed, self.recipe.run.batch
        noise = BatchNoise(self.device, size, slots, "diffusion", seed, step)
        places = torch.from_numpy(batch_indices(seed, step, slots, size, len(self.shelf))).to(self.device)
        levels = draw_levels(self.terms.law, self.model.schedule, size, "level", seed, step)
        silent = noise.uniform("silent") < self.terms.drop
        said, readings = {}, {}
        for kind, part in self.kinds.items():
            told = self.shelf.there(kind, places) & (noise.uniform(f"drop {kind}") >= self.drops[kind])
            said[kind] = told & ~silent if part.guided else told
            kept = self.shelf.readings(kind, places)
            readings[kind] = part.vary(kept, BatchNoise(self.device, size, slots, "vary", kind, seed, step)) if kept else kept
        z = self.model.codec.normalise(self.shelf.latents(places))
        return Noised(z, noise.normal("noise", self.caches[0].shape), _rows(levels, slots), places, said, readings)

    def loss(self, player: str, batch: Noised, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean weighted denoising loss over the batch."""
        z, noise = (value.to(memory_format=torch.channels_last) for value in (batch.z, batch.noise))
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
        said, readings = batch.said, batch.readings
        return merge([self.shelf.cond(kind, batch.places, said[kind], readings[kind], size) for kind in self.kinds])

    def describe(self) -> dict[str, Any]:
        """Pictures, and sizes of the nets."""
        return {"pictures": sum(map(len, self.caches)), **super().describe()}

    def warnings(self) -> list[str]:
        """Few pictures, or none with words."""
        found = few_pictures(sum(map(len, self.caches))) if self.terms.start is None else []
        if self.captions is not None and not any(self.shelf.said):
            given = "no picture has a caption, so the model learns how they look but no words for them"
            found.append(explain(given, '--set "data.caption=my dog" gives all of them one'))
        return found

    def preview(self, step: int) -> Image.Image:
        """The recipe's prompts, or the first captions of the cache, or else classes, drawn from fixed seeds."""
        draw = Generator(self.model, device=str(self.device), precision="fp32", tell=None)
        prompts = self.terms.preview_prompts or tuple(row[0] for row in self.caches[0].captions[:PREVIEWS])
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
