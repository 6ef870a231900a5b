"""Stage two: a denoiser learns to clean noised latents, steered by captions and labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from undiffuse.checkpoints.api import save_model
from undiffuse.conditioners.combined import merge
from undiffuse.conditioners.labels import LabelConditioner
from undiffuse.core.conditioning import Conditioning
from undiffuse.core.errors import explain
from undiffuse.core.pictures import grid_image
from undiffuse.core.random import normal, numpy_stream
from undiffuse.data.latents import LatentCache
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
    keep: Tensor  # (B,) false where the conditioning is dropped
    text: Conditioning | None
    labels: list[str | None]


class DiffusionTraining(Objective[Noised]):
    """The denoising loss over a latent cache; only the U-Net and label tables learn.

    Args:
        recipe: of kind "diffusion".
        model: the record whose denoiser is trained in place.
        cache: latents and captions of the data set.
        captions: encodes captions of the cache; None without text.
    """

    def __init__(self, recipe: Recipe, model: LatentDiffusion, cache: LatentCache, captions: Captions | None) -> None:
        terms = recipe.objective
        assert isinstance(terms, Terms)
        self.recipe = recipe
        self.terms = terms
        self.model = model
        self.cache = cache
        self.captions = captions
        self.device = model.device
        self.label_part = next((part for part in model.conditioner.parts if isinstance(part, LabelConditioner)), None)
        learned: dict[str, nn.Module] = {"network": model.denoiser.network}
        if self.label_part is not None:
            learned["labels"] = self.label_part
        learner = nn.ModuleDict(learned)
        self.players = {"denoiser": learner.train().requires_grad_(True)}
        self.null_text = None if captions is None else captions([""])
        shift, scale = model.codec.shift.cpu(), model.codec.scale.cpu()
        self._normalise: Callable[[Tensor], Tensor] = lambda mean: (mean - shift) * scale

    def batch(self, step: int, slots: range) -> Noised:
        """Latents, noise, levels and conditioning for these slots; each slot has streams of its own."""
        seed, size = self.recipe.run.seed, self.recipe.run.batch
        indices, variants, keep, noise = [], [], [], []
        for slot in slots:
            rng = numpy_stream("diffusion", seed, step, slot)
            indices.append(slot_index(seed, step, slot, size, len(self.cache))[1])
            variants.append(int(rng.integers(self.cache.variants)))
            keep.append(bool(rng.random() >= self.terms.drop))
            noise.append(normal(self.cache.shape, "noise", seed, step, slot))
        levels = draw_levels(self.terms.law, self.model.schedule, size, "level", seed, step)
        said = [self.cache.captions[i][v] for i, v in zip(indices, variants, strict=True)]
        kept = torch.tensor(keep)
        text = None
        if self.captions is not None and self.null_text is not None:
            text = self.captions(said).where(kept, self.null_text)
        labels = [self._label(i) if k else None for i, k in zip(indices, keep, strict=True)]
        z = self._normalise(self.cache.latents(indices, variants))
        return Noised(z, torch.stack(noise), _rows(levels, slots), kept, text, labels)

    def _label(self, index: int) -> str | None:
        """The label of a picture; None where the model that the run goes on from has no such class."""
        label = self.cache.labels[index]
        return label if self.label_part is not None and label in self.label_part.classes else None

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
        conds = [] if batch.text is None else [batch.text.to(self.device)]
        if self.label_part is not None:
            conds.append(self.label_part([{"label": label} for label in batch.labels]))
        return merge(conds) if conds else Conditioning()

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
        classes = (None,) if self.captions is not None or self.label_part is None else self.label_part.classes
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
