"""From a recipe to an objective that is ready to learn: data opened, nets built, caches filled."""

from __future__ import annotations

from pathlib import Path

import torch

from undiffuse.checkpoints.api import load_codec
from undiffuse.checkpoints.efficientnet import load_efficientnet
from undiffuse.checkpoints.lpips import load_lpips
from undiffuse.core.errors import SpecError, explain
from undiffuse.core.random import numpy_stream
from undiffuse.data.dataset import Pictures
from undiffuse.data.records import Progress
from undiffuse.data.render import render
from undiffuse.data.store import Joined
from undiffuse.model.build import build_autoencoder
from undiffuse.model.spec import AutoencoderSpec, IdentitySpec, VQSpec
from undiffuse.networks.autoencoder import ConvolutionalAutoencoder
from undiffuse.networks.discriminator import Discriminator
from undiffuse.networks.perceptual import PerceptualDistance
from undiffuse.training.objectives.autoencoder import AutoencoderTraining
from undiffuse.training.objectives.diffusion import DiffusionTraining
from undiffuse.training.objectives.preview import PreviewTraining
from undiffuse.training.objectives.sketch import SketchTraining
from undiffuse.training.opening import open_also, open_pictures, place, seeded
from undiffuse.training.previews import prepare_preview
from undiffuse.training.principal import start_at_principal_components
from undiffuse.training.recipe import AutoencoderObjective, PerceptualSpec, PreviewObjective, Recipe, SketchObjective
from undiffuse.training.sketching import prepare_sketch
from undiffuse.training.stage_two import prepare_diffusion

PRINCIPAL_PICTURES = 512


def prepare(
    recipe: Recipe, folder: Path, device: torch.device, progress: Progress | None = None
) -> AutoencoderTraining | SketchTraining | DiffusionTraining | PreviewTraining:
    """Build the objective of a recipe.

    Args:
        recipe: what to learn.
        folder: the run's folder; the latent cache is kept in it.
        device: where the nets go.
        progress: told (done, in all, what) while caches are filled.

    Raises:
        SpecError: when the recipe lacks a table that its objective needs.
        DataError, CheckpointError: when pictures or models cannot be read.
    """
    if isinstance(recipe.objective, AutoencoderObjective):
        return _autoencoder(recipe, recipe.objective, device)
    if isinstance(recipe.objective, PreviewObjective):
        return prepare_preview(recipe, recipe.objective, device)
    if isinstance(recipe.objective, SketchObjective):
        return prepare_sketch(recipe, recipe.objective, folder, device, progress)
    return prepare_diffusion(recipe, recipe.objective, folder, device, progress)


def _autoencoder(recipe: Recipe, terms: AutoencoderObjective, device: torch.device) -> AutoencoderTraining:
    start = load_codec(terms.start) if terms.start is not None else None
    spec = start[1].autoencoder if start is not None else recipe.autoencoder
    if spec is None:
        given = "a recipe of kind 'autoencoder' without [autoencoder]"
        raise SpecError(
            explain(given, "that table gives the net's sizes", "add it, or go on from a model with objective.start")
        )
    if isinstance(spec, IdentitySpec):
        given = "an autoencoder of kind 'identity'"
        raise SpecError(explain(given, "it has nothing to learn", "begin with stage two: objective.codec = 'pixels'"))
    side = recipe.data.render.size
    if spec.shortcut and spec.latent_channels > spec.in_channels * spec.factor**2:
        given = f"autoencoder.latent_channels = {spec.latent_channels} with a shortcut"
        allowed = f"a patch of {spec.factor}x{spec.factor} pixels has {spec.in_channels * spec.factor**2} directions"
        raise SpecError(explain(given, allowed, "lower it, or set autoencoder.shortcut = false"))
    if terms.crop % spec.factor or terms.crop > side:
        allowed = f"a multiple of {spec.factor} up to data.render.size = {side} is allowed"
        raise SpecError(explain(f"objective.crop = {terms.crop}", allowed))
    _, own, held_out = open_pictures(recipe)
    also = zip(recipe.data.also, open_also(recipe), strict=True)
    pictures = Joined([own, *(store for one, (_, store) in also for _ in range(one.variants))])
    autoencoder = (
        start[0].autoencoder.train().requires_grad_(True) if start is not None else _fresh_autoencoder(recipe, spec, pictures)
    )
    assert isinstance(autoencoder, ConvolutionalAutoencoder)
    perceptual = None if terms.perceptual is None else _perceptual(terms.perceptual).to(device)
    place(autoencoder, device)
    critic = None
    if terms.adversarial is not None:
        with seeded(recipe, "discriminator"):
            critic = Discriminator(width=terms.adversarial.width, layers=terms.adversarial.layers).to(device)
    return AutoencoderTraining(recipe, spec, autoencoder, pictures, held_out, perceptual, critic)


def _perceptual(spec: PerceptualSpec) -> PerceptualDistance:
    return load_lpips(spec.files) if spec.backbone == "lpips" else PerceptualDistance(load_efficientnet())


def _fresh_autoencoder(recipe: Recipe, spec: AutoencoderSpec | VQSpec, pictures: Pictures) -> ConvolutionalAutoencoder:
    with seeded(recipe):
        autoencoder = build_autoencoder(spec)
    assert isinstance(autoencoder, ConvolutionalAutoencoder)
    if spec.shortcut:
        rng = numpy_stream("principal", recipe.run.seed)
        chosen = rng.choice(len(pictures.rows), min(PRINCIPAL_PICTURES, len(pictures.rows)), replace=False)
        patches = [render(pictures, int(i), recipe.data.render, rng).pixels for i in chosen]
        start_at_principal_components(autoencoder, torch.stack(patches), rng)
    return autoencoder
