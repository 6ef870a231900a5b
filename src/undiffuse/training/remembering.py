"""What a sketcher's memory keeps of the training pictures, and which of them each rendering should call to mind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from undiffuse.data.dataset import Pictures
from undiffuse.data.latents import build_latents
from undiffuse.data.records import Example, Progress
from undiffuse.data.render import ALONE, render
from undiffuse.data.store import PictureStore
from undiffuse.model.codec import Codec
from undiffuse.networks.arrangement import WAYS
from undiffuse.networks.memory import kept_apart
from undiffuse.training.encoded import autoencoder_digest, encoder_of, render_told
from undiffuse.training.recipe import Recipe

FOLDER = "things"
GROUNDS = ("white", "black")


def encode_things(recipe: Recipe, codec: Codec, pictures: PictureStore, folder: Path, progress: Progress | None) -> Tensor:
    """Every picture whole and plain, (N, C + 1, h, w): what it paints, normalised as latents are, and what it covers, 0 to 1.

    What a picture covers is what looks the same on white and on black; one that is no cut-out covers everything.
    """
    plain = recipe.data.render.model_copy(update={"plain": 1.0, "pair": 0.0, "twins": 0.0, "flip": 0.0, "crop": "center"})
    specs = [plain.model_copy(update={"backgrounds": {name: 1.0}}) for name in GROUNDS]
    to_latents = encoder_of(recipe, codec)

    def draw(pictures: Pictures, index: int, rng: np.random.Generator) -> Example:
        state = rng.bit_generator.state
        shown = []
        for spec in specs:
            rng.bit_generator.state = state  # the same thing at the same place
            shown.append(render(pictures, index, spec, rng))
        return replace(shown[0], pixels=torch.cat([one.pixels for one in shown]))

    def encode(pixels: Tensor) -> Tensor:
        white, black = pixels.split(3, dim=1)
        latents = to_latents(white)
        through = (white - black).mean(1, keepdim=True) / 2  # pixels lie in [-1, 1]
        cover = F.interpolate((1 - through).clamp(0, 1), tuple(latents.shape[2:]), mode="area")
        return torch.cat([latents, cover.to(latents.device)], dim=1)

    identity = {
        "autoencoder": autoencoder_digest(codec),
        "render": render_told(plain),
        "data": recipe.data.path,
        "only": {name: list(values) for name, values in recipe.data.only.items()},
    }
    cache = build_latents(pictures, draw, encode, 1, recipe.run.seed, folder / FOLDER, progress, identity)
    maps = cache.latents(range(len(cache)), [0] * len(cache))
    size = recipe.data.render.size
    with torch.inference_mode():
        white = to_latents(torch.ones(1, 3, size, size))
        paint, ground = (codec.normalise(some.to(codec.device)).cpu() for some in (maps[:, :-1], white))
        return kept_apart(paint, maps[:, -1:], ground[0])


def called_to_mind(shown: Tensor, layouts: Sequence[Sequence[str]]) -> Tensor:
    """The place in memory (N * V,) that each rendering should call to mind: that of its picture, where it shows it alone.

    Renderings of two things, and all of pictures that are not `shown` (M,), call for the last place, M.

    Args:
        shown: indices of the pictures in memory, in order.
        layouts: of the variants of every picture.
    """
    alone = torch.tensor([[layout in ALONE for layout in variants] for variants in layouts])  # (N, V)
    return torch.where(alone, _slots(shown, len(layouts))[:-1, None], len(shown)).flatten()


def arranged(
    shown: Tensor, layouts: Sequence[Sequence[str]], partners: Sequence[Sequence[int | None]]
) -> tuple[Tensor, Tensor]:
    """How two things stand in each rendering, a row of `WAYS` (N * V,), and the places in memory of both (N * V, 2).

    The way is -1 where there are no two; a place is M where a thing is not in memory.
    """
    number = {way: row for row, way in enumerate(WAYS)}
    ways = torch.tensor([[number.get(layout, -1) for layout in variants] for variants in layouts])  # (N, V)
    others = torch.tensor([[-1 if partner is None else partner for partner in variants] for variants in partners])
    own = torch.arange(len(layouts))[:, None].expand_as(others)
    places = _slots(shown, len(layouts))[torch.stack([own, others], dim=-1)]  # (N, V, 2)
    return ways.flatten(), places.flatten(0, 1)


def _slots(shown: Tensor, count: int) -> Tensor:
    """The place in memory of each of `count` pictures and, at the end, of no picture (count + 1,)."""
    slots = torch.full((count + 1,), len(shown))
    slots[shown] = torch.arange(len(shown))
    return slots


def groups_of(labels: Sequence[str | None], shown: Tensor) -> Tensor:
    """A number for each place in memory (M + 1,) that pictures of one label share; without a label it is like no other.

    So is the last place, which is that of no picture.
    """
    numbers: dict[str, int] = {}
    found = []
    for place in shown.tolist():
        label = labels[place]
        found.append(-1 - place if label is None else numbers.setdefault(label, len(numbers)))
    return torch.tensor([*found, len(numbers)])
