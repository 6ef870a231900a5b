"""What a sketcher's memory keeps of the training pictures, and which of them each rendering should call to mind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from undiffuse.core.devices import choose_precision
from undiffuse.data.dataset import Pictures
from undiffuse.data.latents import build_latents
from undiffuse.data.records import Example, Progress
from undiffuse.data.render import ALONE, render
from undiffuse.data.store import PictureStore
from undiffuse.model.codec import Codec
from undiffuse.networks.memory import kept_apart
from undiffuse.training.encoded import autoencoder_digest
from undiffuse.training.recipe import Recipe

FOLDER = "things"
GROUNDS = ("white", "black")


def encode_things(
    recipe: Recipe, codec: Codec, pictures: PictureStore, folder: Path, progress: Progress | None
) -> tuple[Tensor, Tensor]:
    """Every picture whole and plain: normalised latents on white (N, C, h, w), and cover (N, 1, h, w) from 0 to 1.

    What a picture covers is what looks the same on white and on black; one that is no cut-out covers everything.
    """
    plain = recipe.data.render.model_copy(update={"plain": 1.0, "pair": 0.0, "flip": 0.0, "crop": "center"})
    specs = [plain.model_copy(update={"backgrounds": {name: 1.0}}) for name in GROUNDS]
    precision = choose_precision(codec.device, recipe.run.precision)

    def draw(pictures: Pictures, index: int, rng: np.random.Generator) -> Example:
        state = rng.bit_generator.state
        shown = []
        for spec in specs:
            rng.bit_generator.state = state  # the same thing at the same place
            shown.append(render(pictures, index, spec, rng))
        return replace(shown[0], pixels=torch.cat([one.pixels for one in shown]))

    def encode(pixels: Tensor) -> Tensor:
        white, black = pixels.split(3, dim=1)
        with torch.autocast(codec.device.type, precision, enabled=precision != torch.float32):
            latents = codec.autoencoder.encode(white.to(codec.device, memory_format=torch.channels_last))[0].float()
        through = (white - black).mean(1, keepdim=True) / 2  # pixels lie in [-1, 1]
        cover = F.interpolate((1 - through).clamp(0, 1), tuple(latents.shape[2:]), mode="area")
        return torch.cat([latents, cover.to(latents.device)], dim=1)

    identity = {
        "autoencoder": autoencoder_digest(codec),
        "render": plain.model_dump(mode="json"),
        "data": recipe.data.path,
        "only": {name: list(values) for name, values in recipe.data.only.items()},
    }
    cache = build_latents(pictures, draw, encode, 1, recipe.run.seed, folder / FOLDER, progress, identity)
    maps = cache.latents(range(len(cache)), [0] * len(cache))
    return codec.normalise(maps[:, :-1].to(codec.device)).cpu(), maps[:, -1:]


def things_before_nothing(codec: Codec, latents: Tensor, cover: Tensor) -> Tensor:
    """What a memory keeps (N, C + 1, h, w) of pictures on white and their cover, as `encode_things` gives them."""
    side = codec.factor * latents.shape[-1]
    with torch.no_grad():
        white = codec.autoencoder.encode(torch.ones(1, 3, side, side, device=codec.device))[0].float()
        return kept_apart(latents, cover, codec.normalise(white)[0].cpu())


def called_to_mind(shown: Tensor, layouts: Sequence[Sequence[str]]) -> Tensor:
    """The place in memory (N * V,) that each rendering should call to mind: that of its picture, where it shows it alone.

    Renderings of two things, and all of pictures that are not `shown` (M,), call for the last place, M.

    Args:
        shown: indices of the pictures in memory, in order.
        layouts: of the variants of every picture.
    """
    nothing = len(shown)
    slots = torch.full((len(layouts),), nothing)
    slots[shown] = torch.arange(nothing)
    alone = torch.tensor([[layout in ALONE for layout in variants] for variants in layouts])  # (N, V)
    return torch.where(alone, slots[:, None], nothing).flatten()


def groups_of(labels: Sequence[str | None], shown: Tensor) -> Tensor:
    """A number (M,) for each picture in memory that those of its label share; one of its own where it has no label."""
    numbers: dict[str, int] = {}
    found = []
    for place in shown.tolist():
        label = labels[place]
        found.append(-1 - place if label is None else numbers.setdefault(label, len(numbers)))
    return torch.tensor(found)
