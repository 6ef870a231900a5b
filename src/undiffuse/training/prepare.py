"""From a recipe to an objective that is ready to learn: data opened, nets built, caches filled."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import nn

from undiffuse.checkpoints.api import load_codec, load_model
from undiffuse.checkpoints.efficientnet import load_efficientnet
from undiffuse.checkpoints.minilm import load_minilm, prune_minilm
from undiffuse.conditioners.base import ConditionerPart
from undiffuse.conditioners.combined import Conditioner
from undiffuse.conditioners.labels import LabelConditioner
from undiffuse.conditioners.text import TextConditioner
from undiffuse.core.devices import choose_precision
from undiffuse.core.errors import DataError, SpecError, explain
from undiffuse.core.random import numpy_stream, stream_seed
from undiffuse.data.dataset import Dataset, Pictures, open_dataset
from undiffuse.data.latents import LatentCache, build_latents
from undiffuse.data.records import Example, Progress
from undiffuse.data.render import render
from undiffuse.data.store import PictureStore
from undiffuse.model.build import build_autoencoder, build_denoiser
from undiffuse.model.codec import Codec
from undiffuse.model.latent_diffusion import LatentDiffusion
from undiffuse.model.spec import (
    AutoencoderSpec,
    BertSpec,
    CodecSpec,
    ConditionerSpec,
    LabelSpec,
    LatentSpec,
    ModelSpec,
    TextSpec,
    UNetSpec,
)
from undiffuse.networks.autoencoder import Autoencoder
from undiffuse.networks.discriminator import Discriminator
from undiffuse.networks.perceptual import PerceptualDistance
from undiffuse.networks.text.bert import BertEncoder
from undiffuse.training.captions import cache_captions
from undiffuse.training.objectives.autoencoder import AutoencoderTraining
from undiffuse.training.objectives.diffusion import DiffusionTraining
from undiffuse.training.principal import start_at_principal_components
from undiffuse.training.recipe import AutoencoderObjective, DiffusionObjective, Recipe

PRINCIPAL_PICTURES = 512
LEAST_DEVIATION = 1e-4  # of a latent channel, for data sets in which it never changes


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
    path = Path(recipe.data.path).expanduser()
    train, held_out = (_captioned(open_dataset(path, split), recipe.data.caption) for split in ("train", "val"))
    if not len(train):
        given = f"{path} holds {len(held_out)} pictures, all of them for validation"
        raise DataError(explain(given, "at least one to learn from is needed", "add pictures, or change their split"))
    if not len(held_out):
        held_out = train
    return train, PictureStore(train, size, budget), PictureStore(held_out, size, budget // 8)


def _captioned(data: Dataset, caption: str) -> Dataset:
    """The data set with this caption where it has none."""
    if not caption:
        return data
    return replace(data, rows=[row if row.caption else replace(row, caption=caption) for row in data.rows])


def _autoencoder(recipe: Recipe, terms: AutoencoderObjective, device: torch.device) -> AutoencoderTraining:
    start = load_codec(terms.start) if terms.start is not None else None
    spec = start[1].autoencoder if start is not None else recipe.autoencoder
    if spec is None:
        given = "a recipe of kind 'autoencoder' without [autoencoder]"
        raise SpecError(
            explain(given, "that table gives the net's sizes", "add it, or go on from a model with objective.start")
        )
    side = recipe.data.render.size
    if spec.shortcut and spec.latent_channels > spec.in_channels * spec.factor**2:
        given = f"autoencoder.latent_channels = {spec.latent_channels} with a shortcut"
        allowed = f"a patch of {spec.factor}x{spec.factor} pixels has {spec.in_channels * spec.factor**2} directions"
        raise SpecError(explain(given, allowed, "lower it, or set autoencoder.shortcut = false"))
    if terms.crop % spec.factor or terms.crop > side:
        allowed = f"a multiple of {spec.factor} up to data.render.size = {side} is allowed"
        raise SpecError(explain(f"objective.crop = {terms.crop}", allowed))
    _, pictures, held_out = _open(recipe)
    autoencoder = (
        start[0].autoencoder.train().requires_grad_(True) if start is not None else _fresh_autoencoder(recipe, spec, pictures)
    )
    perceptual = None
    if terms.perceptual is not None:
        perceptual = PerceptualDistance(load_efficientnet()).to(device)
    _place(autoencoder, device)
    critic = None
    if terms.adversarial is not None:
        with _seeded(recipe, "discriminator"):
            critic = Discriminator(width=terms.adversarial.width, layers=terms.adversarial.layers).to(device)
    return AutoencoderTraining(recipe, spec, autoencoder, pictures, held_out, perceptual, critic)


def _fresh_autoencoder(recipe: Recipe, spec: AutoencoderSpec, pictures: PictureStore) -> Autoencoder:
    with _seeded(recipe):
        autoencoder = build_autoencoder(spec)
    if spec.shortcut:
        rng = numpy_stream("principal", recipe.run.seed)
        chosen = rng.choice(len(pictures), min(PRINCIPAL_PICTURES, len(pictures)), replace=False)
        patches = [render(pictures, int(i), recipe.data.render, rng).pixels for i in chosen]
        start_at_principal_components(autoencoder, torch.stack(patches))
    return autoencoder


def _diffusion(
    recipe: Recipe, terms: DiffusionObjective, folder: Path, device: torch.device, progress: Progress | None
) -> DiffusionTraining:
    data, pictures, _ = _open(recipe)
    start = load_model(terms.start) if terms.start is not None else None
    if start is not None and terms.codec is None:
        codec, codec_spec = start.codec, start.spec.codec
    else:
        codec, codec_spec = load_codec(terms.codec)
    if start is not None and codec.channels != start.codec.channels:
        given = f"objective.codec with {codec.channels} latent channels"
        raise SpecError(explain(given, f"objective.start has learned {start.codec.channels}", "leave one of the two out"))
    _place(codec, device)
    cache = _latents(recipe, terms, codec, codec_spec, pictures, folder / "latents", progress)
    if start is None or terms.codec is not None:
        codec, codec_spec = _normalised(codec, codec_spec, cache)
    if start is not None:
        spec = ModelSpec.parse(
            start.spec.model_dump() | {"name": recipe.name, "codec": codec_spec, "size": recipe.data.render.size}
        )
        model = LatentDiffusion(codec, start.denoiser, start.conditioner, spec)
    else:
        model = _fresh_model(recipe, terms, codec, codec_spec, cache, data)
    model.to(device)
    _place(model.denoiser, device)
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

    precision = choose_precision(codec.device, recipe.run.precision)

    def encode(pixels: torch.Tensor) -> torch.Tensor:
        with torch.autocast(codec.device.type, precision, enabled=precision != torch.float32):
            return codec.autoencoder.encode(pixels.to(codec.device, memory_format=torch.channels_last))[0].float()

    def draw(pictures: Pictures, index: int, rng: np.random.Generator) -> Example:
        return render(pictures, index, recipe.data.render, rng)

    identity: dict[str, Any] = {
        "autoencoder": _digest(codec),
        "render": recipe.data.render.model_dump(mode="json"),
        "data": recipe.data.path,
    }
    if recipe.data.caption:
        identity["caption"] = recipe.data.caption
    return build_latents(pictures, draw, encode, terms.variants, recipe.run.seed, folder, progress, identity)


def _digest(codec: Codec) -> str:
    digest = hashlib.sha256()
    for name, tensor in codec.autoencoder.state_dict().items():
        digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _fresh_model(
    recipe: Recipe, terms: DiffusionObjective, codec: Codec, codec_spec: CodecSpec, cache: LatentCache, data: Dataset
) -> LatentDiffusion:
    """A model around this codec, with a denoiser that has learned nothing yet."""
    if recipe.denoiser is None:
        raise SpecError(
            explain(
                "a recipe of kind 'diffusion' without [denoiser]",
                "that table gives the net's sizes",
                "add it, or go on from a model with objective.start",
            )
        )
    with _seeded(recipe):
        parts, specs = _conditioners(terms, cache, data)
        conditioner = Conditioner(parts)
        content = {
            "name": recipe.name,
            "size": recipe.data.render.size,
            "codec": codec_spec,
            "denoiser": _fitted(recipe.denoiser, conditioner),
            "conditioners": specs,
            "schedule": terms.schedule,
            "prediction": terms.prediction,
        }
        spec = ModelSpec.parse(content, where=recipe.name)
        denoiser = build_denoiser(spec)
    return LatentDiffusion(codec, denoiser, conditioner, spec)


def _normalised(codec: Codec, spec: CodecSpec, cache: LatentCache) -> tuple[Codec, CodecSpec]:
    """The codec with its latents normalised, channel by channel, by the statistics of the whole set."""
    scale = 1 / cache.std.clamp_min(LEAST_DEVIATION)
    latent = LatentSpec(shift=tuple(cache.mean.tolist()), scale=tuple(scale.tolist()))
    normalised = Codec(codec.autoencoder, cache.mean, scale, codec.factor, codec.channels).to(codec.device)
    return normalised, spec.model_copy(update={"latent": latent})


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
        tokenizer, encoder, sizes = _text_encoder(terms, cache)
        parts.append(TextConditioner(tokenizer, encoder, length=terms.length))
        specs.append(TextSpec(encoder=sizes, length=terms.length))
    if terms.labels:
        if not data.classes:
            given = f"objective.labels = true, but {data.path} names no classes"
            raise SpecError(explain(given, "class sub-folders or a 'label' field are needed"))
        parts.append(LabelConditioner(data.classes, terms.label_width))
        specs.append(LabelSpec(classes=tuple(data.classes), width=terms.label_width))
    return parts, specs


def _text_encoder(terms: DiffusionObjective, cache: LatentCache) -> tuple[Tokenizer, BertEncoder, BertSpec]:
    if terms.text == "minilm":
        encoder, tokenizer = load_minilm()
        captions = [caption for row in cache.captions for caption in row]
        encoder, tokenizer = prune_minilm(encoder, tokenizer, captions, rows=terms.vocabulary)
        return tokenizer, encoder, BertSpec(vocabulary=encoder.words.num_embeddings)
    model = load_model(terms.text)
    text = next((part for part in model.conditioner.parts if isinstance(part, TextConditioner)), None)
    spec = next((part for part in model.spec.conditioners if isinstance(part, TextSpec)), None)
    if text is None or spec is None:
        raise SpecError(explain(f"objective.text = {terms.text!r} reads no captions", "a model with a text encoder is needed"))
    return text.tokenizer, text.encoder, spec.encoder


def _place(net: nn.Module, device: torch.device) -> None:
    """Move a net, in place, with its kernels in the order that convolutions are fastest in."""
    net.to(device)
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


@contextmanager
def _seeded(recipe: Recipe, *net: str) -> Iterator[None]:
    """Fresh weights as a function of the recipe's seed: torch draws them from its global generator."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed("init", recipe.run.seed, *net))
        yield
