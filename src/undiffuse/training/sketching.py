"""From a recipe of kind "sketch" to an objective that is ready to learn."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from undiffuse.checkpoints.api import load_model
from undiffuse.conditioners.text import TextConditioner, TextSpec
from undiffuse.core.errors import SpecError, explain
from undiffuse.data.latents import LatentCache
from undiffuse.data.records import Progress
from undiffuse.model.build import build_denoiser
from undiffuse.model.latent_diffusion import LatentDiffusion
from undiffuse.model.spec import ModelSpec
from undiffuse.networks.sketcher import Sketcher
from undiffuse.training.encoded import encode_captions, encode_pictures
from undiffuse.training.grow import grow_into
from undiffuse.training.objectives.sketch import SketchTraining
from undiffuse.training.opening import open_pictures, place, seeded
from undiffuse.training.principal import principal_patches
from undiffuse.training.recipe import Recipe, SketchObjective

EXAMPLES = 6000  # latents from which the basis of sketches begins


def prepare_sketch(
    recipe: Recipe, terms: SketchObjective, folder: Path, device: torch.device, progress: Progress | None
) -> SketchTraining:
    """Build the objective around the model that `start` names; a sketch that it has already is learned anew.

    Raises:
        SpecError: when that model has no text part to give it to or reads maps already, or sizes do not fit its latents.
        DataError, CheckpointError: when pictures or the model cannot be read.
    """
    model = load_model(terms.start)
    text = next((part for part in model.conditioner.parts if isinstance(part, TextConditioner)), None)
    if text is None:
        given = f"objective.start = {terms.start!r} reads no captions"
        raise SpecError(explain(given, "a sketch is made from words", "name a model with a text encoder"))
    _, pictures, _ = open_pictures(recipe)
    place(model.codec, device)
    cache = encode_pictures(recipe, terms.variants, model.codec, pictures, folder, progress)
    captions = encode_captions(text.to(device), cache, folder, progress)  # before it has a sketcher: their states are needed
    model = _with_sketch(recipe, terms, model, text, cache)
    model.to(device)
    return SketchTraining(recipe, model, text, cache, captions)


def _with_sketch(
    recipe: Recipe, terms: SketchObjective, start: LatentDiffusion, text: TextConditioner, cache: LatentCache
) -> LatentDiffusion:
    """The model with a fresh sketcher in its text part, and a denoiser that reads its map."""
    others = start.spec.denoiser.spatial_channels - text.spatial_channels
    if others:
        given = f"objective.start = {terms.start!r} reads {others} channels of maps beside its words"
        raise SpecError(explain(given, "a sketch comes before them", "begin with the model that they were added to"))
    channels, side, width = cache.shape
    if side != width:
        raise SpecError(explain(f"latents of {width}x{side}", "sketches are square", "set data.render.crop = 'center'"))
    net = terms.net.model_copy(update={"channels": channels, "side": side})
    if net.rank > channels * side**2:
        allowed = f"latents hold {channels * side**2} numbers, and no more maps than that differ"
        raise SpecError(explain(f"objective.net.rank = {net.rank}", allowed, "lower it"))
    with seeded(recipe, "sketch"):
        sketcher = Sketcher(text.token_width, **net.model_dump())
    sketcher.start_linear(*principal_patches(_examples(start, cache), side, net.rank))
    text.sketch_with(sketcher)
    parts = [
        part.model_copy(update={"sketch": net}) if isinstance(part, TextSpec) else part for part in start.spec.conditioners
    ]
    denoiser = start.spec.denoiser.model_copy(update={"spatial_channels": channels})
    content = {**start.spec.model_dump(), "name": recipe.name, "conditioners": parts, "denoiser": denoiser}
    spec = ModelSpec.parse(content, where=recipe.name)
    with seeded(recipe):
        grown = build_denoiser(spec)
    grow_into(grown.network, start.denoiser.network)
    return LatentDiffusion(start.codec, grown, start.conditioner, spec)


def _examples(model: LatentDiffusion, cache: LatentCache) -> Tensor:
    """Some normalised latents (N, C, h, w), spread evenly over the set, for the directions in which they differ most."""
    count = min(EXAMPLES, len(cache))
    latents = cache.latents([place * len(cache) // count for place in range(count)], [0] * count)
    return model.codec.normalise(latents.to(model.codec.device)).cpu()
