"""From a recipe of kind "sketch" to an objective that is ready to learn."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from undiffuse.checkpoints.api import load_model
from undiffuse.conditioners.combined import Conditioner
from undiffuse.conditioners.text import TextConditioner, TextSpec
from undiffuse.core.errors import DataError, SpecError, explain
from undiffuse.data.latents import LatentCache
from undiffuse.data.records import Progress
from undiffuse.data.store import PictureStore
from undiffuse.model.build import build_denoiser
from undiffuse.model.codec import Codec
from undiffuse.model.latent_diffusion import LatentDiffusion
from undiffuse.model.spec import ModelSpec
from undiffuse.networks.sketcher import Sketcher
from undiffuse.training.encoded import FOLDER, encode_captions, encode_pictures
from undiffuse.training.grow import grow_into
from undiffuse.training.objectives.sketch import SketchTraining, Sought, Two, shown
from undiffuse.training.opening import open_pictures, place, seeded
from undiffuse.training.principal import principal_patches
from undiffuse.training.recipe import Recipe, SketchObjective
from undiffuse.training.remembering import arranged, called_to_mind, encode_things, groups_of
from undiffuse.training.texts import lexicon_of, load_text, read_others

EXAMPLES = 6000  # latents from which the basis of sketches begins


def prepare_sketch(
    recipe: Recipe, terms: SketchObjective, folder: Path, device: torch.device, progress: Progress | None
) -> SketchTraining:
    """Build the objective around the model that `start` names; a sketch that it has already is learned anew.

    Raises:
        SpecError: when that model has no text part to give it to or reads maps already, or sizes do not fit its latents.
        DataError, CheckpointError: when pictures or the model cannot be read.
    """
    lexicon = lexicon_of([terms.words])
    model = load_model(terms.start)
    _, pictures, _ = open_pictures(recipe)
    place(model.codec, device)
    cache = encode_pictures(recipe, terms.variants, model.codec, pictures, folder, progress)
    model = model if terms.words is None else _reading_by(terms.words, model, cache)
    text = next((part for part in model.conditioner.parts if isinstance(part, TextConditioner)), None)
    if text is None:
        given = f"objective.start = {terms.start!r} reads no captions"
        raise SpecError(explain(given, "a sketch is made from words", "name a model with a text encoder"))
    captions = encode_captions(text.to(device), [cache], folder, progress)  # before it has a sketcher: their states are needed
    read_others(text, _said(cache), cache.labels, lexicon, folder, progress)
    in_sketcher = shown(len(cache), terms.apart, recipe.run.seed)
    model = _with_sketch(recipe, terms, model, text, cache, len(in_sketcher) if terms.remember else 0)
    sought = None
    if terms.remember:
        sought = _remember(recipe, model.codec, text, cache, pictures, in_sketcher, folder, progress)
    model.to(device)
    return SketchTraining(recipe, model, text, cache, captions, in_sketcher, sought)


def _reading_by(words: TextSpec, start: LatentDiffusion, cache: LatentCache) -> LatentDiffusion:
    """The model with another text encoder in place of its own; it must deliver tokens of the same width."""
    part, spec = load_text(words, _said(cache))
    places = [number for number, own in enumerate(start.conditioner.parts) if isinstance(own, TextConditioner)]
    parts, specs = list(start.conditioner.parts), list(start.spec.conditioners)
    for number in places:
        own, before = parts[number], cast(TextSpec, specs[number])
        if (own.token_width, own.vector_width) != (part.token_width, part.vector_width):
            given = f"objective.words gives tokens of width {part.token_width}"
            raise SpecError(explain(given, f"the U-Net of {start.spec.name!r} reads {own.token_width}", "name another encoder"))
        if own.spatial_channels:
            spec = spec.model_copy(update={"sketch": before.sketch})
            part.sketch_with(cast(Sketcher, own.sketcher))
        kept = {"drop", "length", "labelled", "classes"} - words.model_fields_set
        spec = spec.model_copy(update={name: getattr(before, name) for name in kept})
        part.resize(spec.length)
        part.call(spec.classes)
        part.thesaurus = cast(TextConditioner, own).thesaurus
        parts[number], specs[number] = part, spec
    content = {**start.spec.model_dump(), "conditioners": specs, "usual": None}
    spec_of_all = ModelSpec.parse(content, where=start.spec.name)
    return LatentDiffusion(start.codec, start.denoiser, Conditioner(parts), spec_of_all)


def _remember(
    recipe: Recipe,
    codec: Codec,
    text: TextConditioner,
    cache: LatentCache,
    pictures: PictureStore,
    in_memory: Tensor,
    folder: Path,
    progress: Progress | None,
) -> Sought:
    """Fill the memory of the sketcher with these pictures (M,), and tell what each rendering should call to mind."""
    assert text.sketcher is not None and text.sketcher.memory is not None
    memory = text.sketcher.memory
    things = encode_things(recipe, codec, pictures, folder, progress)
    mean, components, _ = principal_patches(things[in_memory], things.shape[-1], memory.basis.shape[0])
    memory.keep(things[in_memory], mean, components)
    places, groups = called_to_mind(in_memory, cache.layouts), groups_of(cache.labels, in_memory)
    if text.sketcher.arrangement is None:
        return Sought(places, groups)
    ways, two = arranged(in_memory, cache.layouts, cache.partners)
    if not (ways >= 0).any():
        given = "objective.net.two = true, and no rendering shows two things"
        raise SpecError(explain(given, "it is learned from cut-outs in twos", "set data.render.pair = 0.2, or leave it out"))
    if all(partner is None for variants in cache.partners for partner in variants):
        given = f"the latents in {folder / FOLDER}, of an earlier version, do not tell which two things are shown"
        raise DataError(explain(given, "objective.net.two needs that", "delete that folder; they are made anew"))
    return Sought(places, groups, Two(ways, two))


def _with_sketch(
    recipe: Recipe,
    terms: SketchObjective,
    start: LatentDiffusion,
    text: TextConditioner,
    cache: LatentCache,
    remembered: int,
) -> LatentDiffusion:
    """The model with a fresh sketcher in its text part, and a denoiser that reads its map."""
    others = start.spec.denoiser.spatial_channels - text.spatial_channels
    if others and text.spatial_channels != cache.shape[0]:
        given = f"objective.start = {terms.start!r} reads {others} channels of maps beside its words"
        raise SpecError(explain(given, "a sketch comes before them", "begin with the model that they were added to"))
    channels, side, width = cache.shape
    if side != width:
        raise SpecError(explain(f"latents of {width}x{side}", "sketches are square", "set data.render.crop = 'center'"))
    net = terms.net.model_copy(update={"channels": channels, "side": side, "remembered": remembered})
    limits = {"rank": (net.rank, channels * side**2)}
    if remembered:
        limits["traits"] = (net.traits, (channels + 1) * side**2)
    for name, (asked, numbers) in limits.items():
        if asked > numbers:
            allowed = f"there are {numbers} numbers to tell, and no more maps than that differ"
            raise SpecError(explain(f"objective.net.{name} = {asked}", allowed, "lower it"))
    with seeded(recipe, "sketch"):
        sketcher = Sketcher(text.token_width, **net.model_dump())
    sketcher.start_linear(*principal_patches(_examples(start, cache), side, net.rank))
    text.sketch_with(sketcher)
    own = {"sketch": net, "thesaurus": text.thesaurus is not None}
    parts = [part.model_copy(update=own) if isinstance(part, TextSpec) else part for part in start.spec.conditioners]
    denoiser = start.spec.denoiser.model_copy(update={"spatial_channels": channels + others})
    told = {"name": recipe.name, "conditioners": parts, "denoiser": denoiser, "usual": recipe.usual}
    content = {**start.spec.model_dump(), **told}
    spec = ModelSpec.parse(content, where=recipe.name)
    with seeded(recipe):
        grown = build_denoiser(spec)
    grow_into(grown.network, start.denoiser.network)
    return LatentDiffusion(start.codec, grown, start.conditioner, spec)


def _said(cache: LatentCache) -> list[str]:
    return [caption for variants in cache.captions for caption in variants]


def _examples(model: LatentDiffusion, cache: LatentCache) -> Tensor:
    """Some normalised latents (N, C, h, w), spread evenly over the set, for the directions in which they differ most."""
    count = min(EXAMPLES, len(cache))
    latents = cache.latents([place * len(cache) // count for place in range(count)], [0] * count)
    return model.codec.normalise(latents.to(model.codec.device)).cpu()
