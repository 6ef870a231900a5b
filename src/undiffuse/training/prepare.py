"""From a recipe to an objective that is ready to learn: data opened, nets built, caches filled."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch
from tokenizers import Tokenizer

from undiffuse.checkpoints.api import load_codec, load_model
from undiffuse.checkpoints.efficientnet import load_efficientnet
from undiffuse.checkpoints.minilm import load_minilm, prune_minilm
from undiffuse.conditioners.base import ConditionerPart
from undiffuse.conditioners.combined import Conditioner
from undiffuse.conditioners.labels import LabelConditioner
from undiffuse.conditioners.text import TextConditioner
from undiffuse.core.errors import SpecError, explain
from undiffuse.core.random import numpy_stream, stream_seed
from undiffuse.data.dataset import Dataset, open_dataset
from undiffuse.data.latents import LatentCache, build_latents
from undiffuse.data.records import Progress
from undiffuse.data.render import RenderSpec, render
from undiffuse.data.store import PictureStore
from undiffuse.model.build import build_autoencoder, build_denoiser
from undiffuse.model.codec import Codec
from undiffuse.model.latent_diffusion import LatentDiffusion
from undiffuse.model.spec import (
    BertSpec,
    CodecSpec,
    ConditionerSpec,
    LabelSpec,
    LatentSpec,
    ModelSpec,
    TextSpec,
    UNetSpec,
)
from undiffuse.networks.perceptual import PerceptualDistance
from undiffuse.networks.text.bert import BertEncoder
from undiffuse.training.captions import cache_captions
from undiffuse.training.objectives.autoencoder import AutoencoderTraining
from undiffuse.training.objectives.diffusion import DiffusionTraining
from undiffuse.training.principal import start_at_principal_components
from undiffuse.training.recipe import AutoencoderObjective, DiffusionObjective, Recipe

PRINCIPAL_PICTURES = 512


def prepare(
    recipe: Recipe, folder: Path, device: torch.device, progress: Progress | None = None
) -> AutoencoderTraining | DiffusionTraining:
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
    return _diffusion(recipe, recipe.objective, folder, device, progress)


def _open(recipe: Recipe) -> tuple[Dataset, PictureStore, PictureStore]:
    size, budget = recipe.data.render.size, int(recipe.data.memory_gib * 2**30)
    train, held_out = (open_dataset(recipe.data.path, split) for split in ("train", "val"))
    if not len(held_out):
        held_out = train
    return train, PictureStore(train, size, budget), PictureStore(held_out, size, budget // 8)


def _autoencoder(recipe: Recipe, terms: AutoencoderObjective, device: torch.device) -> AutoencoderTraining:
    spec = recipe.autoencoder
    if spec is None:
        raise SpecError(explain("a recipe of kind 'autoencoder' without [autoencoder]", "that table gives the net's sizes"))
    side = recipe.data.render.size
    if terms.crop % spec.factor or terms.crop > side:
        allowed = f"a multiple of {spec.factor} up to data.render.size = {side} is allowed"
        raise SpecError(explain(f"objective.crop = {terms.crop}", allowed))
    _, pictures, held_out = _open(recipe)
    with _seeded(recipe):
        autoencoder = build_autoencoder(spec)
    if spec.shortcut:
        rng = numpy_stream("principal", recipe.run.seed)
        chosen = rng.choice(len(pictures), min(PRINCIPAL_PICTURES, len(pictures)), replace=False)
        start = [render(pictures, int(i), recipe.data.render, rng).pixels for i in chosen]
        start_at_principal_components(autoencoder, torch.stack(start))
    perceptual = None
    if terms.perceptual is not None:
        perceptual = PerceptualDistance(load_efficientnet()).to(device)
    autoencoder = autoencoder.to(device=device, memory_format=torch.channels_last)
    return AutoencoderTraining(recipe, spec, autoencoder, pictures, held_out, perceptual)


def _diffusion(
    recipe: Recipe, terms: DiffusionObjective, folder: Path, device: torch.device, progress: Progress | None
) -> DiffusionTraining:
    data, pictures, _ = _open(recipe)
    start = load_model(terms.start) if terms.start is not None else None
    codec, codec_spec = (start.codec, start.spec.codec) if start is not None else load_codec(terms.codec)
    codec.to(device=device, memory_format=torch.channels_last)
    cache = _latents(recipe, terms, codec, codec_spec, pictures, folder / "latents", progress)
    if start is not None:
        model = LatentDiffusion(codec, start.denoiser, start.conditioner, start.spec.model_copy(update={"name": recipe.name}))
    else:
        model = _fresh_model(recipe, terms, codec, codec_spec, cache, data)
    model.to(device)
    model.denoiser.to(memory_format=torch.channels_last)
    text = next((part for part in model.conditioner.parts if isinstance(part, TextConditioner)), None)
    captions = None
    if text is not None:
        said = {caption for row in cache.captions for caption in row} | {""}
        captions = cache_captions(text, said, progress)
    return DiffusionTraining(recipe, model, cache, captions)


def _latents(
    recipe: Recipe,
    terms: DiffusionObjective,
    codec: Codec,
    spec: CodecSpec,
    pictures: PictureStore,
    folder: Path,
    progress: Progress | None,
) -> LatentCache:
    """Latent means as the autoencoder gives them; the codec's normalisation comes later."""

    def encode(pixels: torch.Tensor) -> torch.Tensor:
        return codec.autoencoder.encode(pixels.to(codec.device, memory_format=torch.channels_last))[0]

    identity = {
        "autoencoder": _digest(codec),
        "render": recipe.data.render.model_dump(mode="json"),
        "data": recipe.data.path,
    }
    draw = partial(_render, spec=recipe.data.render)
    return build_latents(pictures, draw, encode, terms.variants, recipe.run.seed, folder, progress, identity)


def _render(pictures, index, rng, spec: RenderSpec):  # type: ignore[no-untyped-def]
    return render(pictures, index, spec, rng)


def _digest(codec: Codec) -> str:
    digest = hashlib.sha256()
    for name, tensor in codec.autoencoder.state_dict().items():
        digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _fresh_model(
    recipe: Recipe, terms: DiffusionObjective, codec: Codec, codec_spec: CodecSpec, cache: LatentCache, data: Dataset
) -> LatentDiffusion:
    """A model around this codec, its latents normalised by the statistics of the whole set."""
    if recipe.denoiser is None:
        raise SpecError(
            explain(
                "a recipe of kind 'diffusion' without [denoiser]",
                "that table gives the net's sizes",
                "add it, or go on from a model with objective.start",
            )
        )
    latent = LatentSpec(shift=tuple(cache.mean.tolist()), scale=tuple((1 / cache.std).tolist()))
    codec_spec = codec_spec.model_copy(update={"latent": latent})
    normalised = Codec(codec.autoencoder, cache.mean, 1 / cache.std, codec.factor, codec.channels).to(codec.device)
    with _seeded(recipe):
        parts, specs = _conditioners(terms, cache, data)
        conditioner = Conditioner(parts)
        spec = ModelSpec(
            name=recipe.name,
            size=recipe.data.render.size,
            codec=codec_spec,
            denoiser=_fitted(recipe.denoiser, conditioner),
            conditioners=tuple(specs),
            schedule=terms.schedule,
            prediction=terms.prediction,
        )
        denoiser = build_denoiser(spec)
    return LatentDiffusion(normalised, denoiser, conditioner, spec)


def _fitted(spec: UNetSpec, conditioner: Conditioner) -> UNetSpec:
    """The U-Net's spec with the widths that the conditioner delivers, where the recipe leaves them out."""
    widths = {"context_width": conditioner.token_width or None, "vector_width": conditioner.vector_width or None}
    return spec.model_copy(update={key: width for key, width in widths.items() if getattr(spec, key) is None})


def _conditioners(
    terms: DiffusionObjective, cache: LatentCache, data: Dataset
) -> tuple[list[ConditionerPart], list[ConditionerSpec]]:
    parts: list[ConditionerPart] = []
    specs: list[ConditionerSpec] = []
    if terms.text != "none":
        tokenizer, encoder = _text_encoder(terms, cache)
        sizes = BertSpec(vocabulary=encoder.words.num_embeddings, width=encoder.width, positions=encoder.positions)
        parts.append(TextConditioner(tokenizer, encoder, length=terms.length))
        specs.append(TextSpec(encoder=sizes, length=terms.length))
    if terms.labels:
        if not data.classes:
            given = f"objective.labels = true, but {data.path} names no classes"
            raise SpecError(explain(given, "class sub-folders or a 'label' field are needed"))
        parts.append(LabelConditioner(data.classes, terms.label_width))
        specs.append(LabelSpec(classes=tuple(data.classes), width=terms.label_width))
    return parts, specs


def _text_encoder(terms: DiffusionObjective, cache: LatentCache) -> tuple[Tokenizer, BertEncoder]:
    if terms.text == "minilm":
        encoder, tokenizer = load_minilm()
        captions = [caption for row in cache.captions for caption in row]
        encoder, tokenizer = prune_minilm(encoder, tokenizer, captions, rows=terms.vocabulary)
        return tokenizer, encoder
    model = load_model(terms.text)
    text = next((part for part in model.conditioner.parts if isinstance(part, TextConditioner)), None)
    if text is None:
        raise SpecError(explain(f"objective.text = {terms.text!r} reads no captions", "a model with a text encoder is needed"))
    return text.tokenizer, text.encoder


@contextmanager
def _seeded(recipe: Recipe) -> Iterator[None]:
    """Fresh weights as a function of the recipe's seed: torch draws them from its global generator."""
    with torch.random.fork_rng():
        torch.manual_seed(stream_seed("init", recipe.run.seed))
        yield
