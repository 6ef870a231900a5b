"""Latents and captions of a run's pictures, encoded once by nets that are frozen, and kept in its folder."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from undiffuse.conditioners.text import TextConditioner
from undiffuse.core.devices import choose_precision
from undiffuse.data.dataset import Pictures
from undiffuse.data.latents import Encode, LatentCache, build_latents
from undiffuse.data.records import Example, Progress
from undiffuse.data.render import RenderSpec, render
from undiffuse.data.store import PictureStore
from undiffuse.model.codec import Codec
from undiffuse.training.captions import CaptionCache, cache_captions
from undiffuse.training.recipe import DataSpec, Recipe

FOLDER = "latents"


def encode_pictures(
    recipe: Recipe, variants: int, codec: Codec, pictures: PictureStore, folder: Path, progress: Progress | None
) -> LatentCache:
    """Latent means as the autoencoder gives them, of `variants` renderings; the codec's normalisation comes later.

    Args:
        recipe: its data, seed and precision.
        variants: renderings of every picture.
        codec: with the autoencoder.
        pictures: to render.
        folder: the run's.
        progress: told (pictures done, pictures in all, what) after every batch.

    Raises:
        DataError: when the folder keeps latents of something else.
    """

    def draw(pictures: Pictures, index: int, rng: np.random.Generator) -> Example:
        return render(pictures, index, recipe.data.render, rng)

    identity: dict[str, Any] = {
        "autoencoder": autoencoder_digest(codec),
        "render": render_told(recipe.data.render),
        "data": recipe.data.path,
    }
    if recipe.data.caption:
        identity["caption"] = recipe.data.caption
    if recipe.data.label:
        identity["label"] = recipe.data.label
    if recipe.data.only:
        identity["only"] = {name: list(values) for name, values in recipe.data.only.items()}
    return build_latents(
        pictures, draw, encoder_of(recipe, codec), variants, recipe.run.seed, folder / FOLDER, progress, identity
    )


def encode_also(
    recipe: Recipe, codec: Codec, pictures: Sequence[PictureStore], folder: Path, progress: Progress | None
) -> list[LatentCache]:
    """The same of the further data sets that a recipe names, in folders of their own; see `also_folder`."""
    found = []
    for place, (also, some) in enumerate(zip(recipe.data.also, pictures, strict=True)):
        own = recipe.model_copy(update={"data": DataSpec(path=also.path, render=recipe.data.render)})
        found.append(encode_pictures(own, also.variants, codec, some, also_folder(folder, place), progress))
    return found


def also_folder(folder: Path, place: int) -> Path:
    """Where a run keeps the latents of the further data set at this place of the recipe's list."""
    return folder / f"also-{place + 1}"


def render_told(spec: RenderSpec) -> dict[str, Any]:
    """How pictures are rendered, for the identity of a cache; what caches of old could not have is told only where it is."""
    told = spec.model_dump(mode="json")
    return told if spec.twins else {name: value for name, value in told.items() if name != "twins"}


def encoder_of(recipe: Recipe, codec: Codec) -> Encode:
    """Pixels (B, 3, H, W) in [-1, 1] to latent means (B, C, h, w) as the autoencoder gives them, in the run's precision."""
    precision = choose_precision(codec.device, recipe.run.precision)

    def encode(pixels: torch.Tensor) -> torch.Tensor:
        with torch.autocast(codec.device.type, precision, enabled=precision != torch.float32):
            return codec.autoencoder.encode(pixels.to(codec.device, memory_format=torch.channels_last))[0].float()

    return encode


def encode_captions(
    text: TextConditioner, caches: Sequence[LatentCache], folder: Path, progress: Progress | None
) -> CaptionCache:
    """Every caption of these latents, and the empty one, through the frozen text encoder; `folder` is the run's."""
    said = {caption for cache in caches for row in cache.captions for caption in row} | {""}
    return cache_captions(text, said, folder / FOLDER, progress)


def autoencoder_digest(codec: Codec) -> str:
    """Sixteen hex digits of the autoencoder's weights."""
    digest = hashlib.sha256()
    for name, tensor in codec.autoencoder.state_dict().items():
        digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
