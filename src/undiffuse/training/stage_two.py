"""Stage two of a run made ready: a codec, what steers, a denoiser, and caches of everything that is frozen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from undiffuse.checkpoints.api import load_codec, load_model
from undiffuse.conditioners.base import ConditionerPart, PartSpec, Sight, Surroundings
from undiffuse.conditioners.combined import Conditioner
from undiffuse.conditioners.maps import MapConditioner
from undiffuse.conditioners.text import TextConditioner, TextSpec
from undiffuse.core.devices import choose_precision
from undiffuse.core.errors import SpecError, explain
from undiffuse.data.dataset import Dataset, Pictures
from undiffuse.data.latents import LatentCache
from undiffuse.data.readings import Readings, build_readings
from undiffuse.data.records import Example, Progress
from undiffuse.data.render import render
from undiffuse.data.store import PictureStore
from undiffuse.generation.given import describer
from undiffuse.model.build import build_denoiser
from undiffuse.model.codec import Codec
from undiffuse.model.latent_diffusion import LatentDiffusion
from undiffuse.model.spec import CodecSpec, LatentSpec, ModelSpec, UNetSpec, join_routes
from undiffuse.training.encoded import FOLDER, also_folder, autoencoder_digest, encode_also, encode_captions, encode_pictures
from undiffuse.training.grow import grow_into
from undiffuse.training.importance import kept_importance
from undiffuse.training.objectives.diffusion import DiffusionTraining
from undiffuse.training.opening import open_also, open_pictures, place, seeded
from undiffuse.training.recipe import DiffusionObjective, Recipe
from undiffuse.training.texts import lexicon_of, load_text, read_others

LEAST_DEVIATION = 1e-4  # of a latent channel, for data sets in which it never changes


def prepare_diffusion(
    recipe: Recipe, terms: DiffusionObjective, folder: Path, device: torch.device, progress: Progress | None
) -> DiffusionTraining:
    """The objective of stage two, its caches filled.

    Raises:
        SpecError: when the recipe lacks a table, or what it asks for does not fit the model that it goes on from.
        DataError, CheckpointError: when pictures or models cannot be read.
    """
    lexicon = lexicon_of(recipe.conditioners)
    data, pictures, _ = open_pictures(recipe)
    start = load_model(terms.start) if terms.start is not None else None
    if start is not None and terms.codec is None:
        codec, codec_spec = start.codec, start.spec.codec
    else:
        codec, codec_spec = load_codec(terms.codec)
    if start is not None and codec.channels != start.codec.channels:
        given = f"objective.codec with {codec.channels} latent channels"
        raise SpecError(explain(given, f"objective.start has learned {start.codec.channels}", "leave one of the two out"))
    if start is not None and terms.codec is None and terms.importance != codec_spec.latent.importance:
        given = f"objective.importance = {terms.importance:g} beside objective.start without objective.codec"
        allowed = f"the latents of that model stay what they are, at {codec_spec.latent.importance:g}"
        raise SpecError(explain(given, allowed, f"leave it out, or set objective.codec = {terms.start!r} as well"))
    place(codec, device)
    also = open_also(recipe)
    stores = [pictures, *(some for _, some in also)]
    surroundings = _surroundings(codec, [data, *(some for some, _ in also)])
    cache = encode_pictures(recipe, terms.variants, codec, pictures, folder, progress)
    caches = [cache, *encode_also(recipe, codec, stores[1:], folder, progress)]
    if start is None or terms.codec is not None:
        codec, codec_spec = _normalised(codec, codec_spec, cache, terms.importance, folder / FOLDER)
    captions = [caption for one in caches for row in one.captions for caption in row]
    parts, specs = _conditioners(recipe, start, captions, surroundings)
    for number, (part, spec) in enumerate(zip(parts, specs, strict=True)):
        if isinstance(part, TextConditioner) and isinstance(spec, TextSpec):
            labels = (*spec.classes, *surroundings.labels)
            read = read_others(part.to(device), captions, labels, lexicon, folder, progress)
            specs[number] = spec.model_copy(update={"thesaurus": read})
    model = _model(recipe, terms, start, codec, codec_spec, parts, specs)
    model.to(device)
    place(model.denoiser, device)
    text = next((part for part in model.conditioner.parts if isinstance(part, TextConditioner)), None)
    encoded = None if text is None else encode_captions(text, caches, folder, progress)
    folders = [folder / FOLDER, *(also_folder(folder, number) / FOLDER for number in range(len(also)))]
    shown = []
    if any(part.stored for part in model.conditioner.parts):
        kept = zip(stores, caches, folders, strict=True)
        shown = [_readings(recipe, model, some, one.variants, own, progress) for some, one, own in kept]
    return DiffusionTraining(recipe, model, caches, encoded, shown)


def _model(
    recipe: Recipe,
    terms: DiffusionObjective,
    start: LatentDiffusion | None,
    codec: Codec,
    codec_spec: CodecSpec,
    parts: list[ConditionerPart],
    specs: list[PartSpec],
) -> LatentDiffusion:
    """A model around this codec and these conditioners: its denoiser fresh, or that of the model to start from."""
    sizes = start.spec.denoiser if start is not None else recipe.denoiser
    if sizes is None:
        raise SpecError(
            explain(
                "a recipe of kind 'diffusion' without [denoiser]",
                "that table gives the net's sizes",
                "add it, or go on from a model with objective.start",
            )
        )
    content = {
        "name": recipe.name,
        "size": recipe.data.render.size,
        "codec": codec_spec,
        "denoiser": _fitted(sizes, specs, anew=start is not None),
        "conditioners": specs,
        "schedule": terms.schedule,
        "prediction": terms.prediction,
        "usual": recipe.usual,
    }
    spec = ModelSpec.parse(content, where=recipe.name)
    with seeded(recipe):
        denoiser = build_denoiser(spec)
    if start is not None:
        grow_into(denoiser.network, start.denoiser.network)
    return LatentDiffusion(codec, denoiser, Conditioner(parts), spec)


def _readings(
    recipe: Recipe,
    model: LatentDiffusion,
    pictures: PictureStore,
    variants: int,
    folder: Path,
    progress: Progress | None,
) -> Readings:
    """What is shown of every rendering of these pictures to the parts that keep arrays."""
    stored = [part for part in model.conditioner.parts if part.stored]
    precision = choose_precision(model.device, recipe.run.precision)
    side = recipe.data.render.size

    def encode(pixels: torch.Tensor) -> torch.Tensor:
        with torch.autocast(model.device.type, precision, enabled=precision != torch.float32):
            return model.codec.encode(pixels.to(model.device, memory_format=torch.channels_last)).float()

    sight = Sight(encode, describer(model.device), (side, side))

    def look(examples: Sequence[Example], rngs: Sequence[np.random.Generator]) -> list[dict[str, Any]]:
        shown: list[dict[str, Any]] = [{} for _ in examples]
        for part in stored:
            given = [part.show(example, rng) for example, rng in zip(examples, rngs, strict=True)]
            for row, reading in zip(shown, part.read(given, sight), strict=True):
                row.update(reading)
        return shown

    def draw(pictures: Pictures, index: int, rng: np.random.Generator) -> Example:
        return render(pictures, index, recipe.data.render, rng)

    pairs = zip(model.spec.conditioners, model.conditioner.parts, strict=True)
    told = [spec.model_dump(mode="json", exclude={"drop"}) for spec, part in pairs if part.stored]
    latent = model.spec.codec.latent.model_dump(mode="json")  # some readings are latents as the net sees them
    identity = {"conditioners": told, "autoencoder": autoencoder_digest(model.codec), "latent": latent}
    return build_readings(pictures, draw, look, variants, recipe.run.seed, folder, progress, identity)


def _normalised(codec: Codec, spec: CodecSpec, cache: LatentCache, importance: float, folder: Path) -> tuple[Codec, CodecSpec]:
    """The codec with its latents normalised, channel by channel, by the statistics of the whole set."""
    scale = 1 / cache.std.clamp_min(LEAST_DEVIATION)
    if importance:
        scale = scale * kept_importance(codec, cache, folder) ** importance
    latent = LatentSpec(shift=tuple(cache.mean.tolist()), scale=tuple(scale.tolist()), importance=importance)
    normalised = Codec(codec.autoencoder, cache.mean, scale, codec.factor, codec.channels, codec.previewer).to(codec.device)
    return normalised, spec.model_copy(update={"latent": latent})


def _fitted(spec: UNetSpec, parts: Sequence[PartSpec], anew: bool) -> UNetSpec:
    """The U-Net's spec with the widths that the conditioners deliver, where the recipe leaves them out, or `anew`."""
    tokens, vector, spatial = join_routes(parts)
    widths = {"context_width": tokens or None, "vector_width": vector or None, "spatial_channels": spatial}
    return spec.model_copy(update={key: width for key, width in widths.items() if anew or not getattr(spec, key)})


def _conditioners(
    recipe: Recipe, start: LatentDiffusion | None, captions: Sequence[str], surroundings: Surroundings
) -> tuple[list[ConditionerPart], list[PartSpec]]:
    """The parts of the model to start from, then those that the recipe adds."""
    wanted = {part.kind: part for part in recipe.conditioners}
    parts = list(start.conditioner.parts) if start is not None else []
    specs = [own.going_on(wanted.pop(own.kind, own)) for own in (start.spec.conditioners if start is not None else ())]
    for number, (part, spec) in enumerate(zip(parts, specs, strict=True)):
        if isinstance(part, TextConditioner) and isinstance(spec, TextSpec):
            specs[number] = spec = spec.fitted(surroundings)
            part.resize(spec.length)
            part.call(spec.classes)
        if isinstance(part, MapConditioner) and surroundings.map_classes not in ((), part.classes):
            parts[number] = part.knowing(surroundings.map_classes)
            specs[number] = spec.model_copy(update={"classes": surroundings.map_classes})
    with seeded(recipe, "conditioners"):
        for spec in sorted(wanted.values(), key=lambda spec: spec.kind != "text"):  # words first: they set the width of tokens
            if isinstance(spec, TextSpec):
                part, spec = load_text(spec.fitted(surroundings), captions)
            else:
                spec = spec.fitted(replace(surroundings, token_width=join_routes(specs).tokens or None))
                part = spec.build(None)
            parts.append(part)
            specs.append(spec)
    return parts, specs


def _surroundings(codec: Codec, data: Sequence[Dataset]) -> Surroundings:
    """What follows from the codec and the data sets, whose labels are taken together.

    Raises:
        SpecError: when semantic maps of two of them have different classes.
    """
    boxed = {str(box[4]) for some in data for row in some.rows for box in row.fields.get("boxes") or ()}
    labels = {label for some in data for label in some.classes}
    mapped = [some for some in data if some.map_classes]
    if any(some.map_classes != mapped[0].map_classes for some in mapped):
        given = f"semantic maps of {' and '.join(str(some.path) for some in mapped)}"
        raise SpecError(explain(given, "their classes differ, and a model has one list of them", "leave all but one out"))
    classes = tuple(mapped[0].map_classes) if mapped else ()
    return Surroundings(codec.channels, codec.factor, tuple(sorted(labels)), classes, tuple(sorted(boxed)))
