"""How what was said reaches the U-Net: as tokens, as a vector beside the time step, or as channels beside the latent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from undiffuse.conditioners.base import ConditionerPart, Size
from undiffuse.conditioners.maps import MapConditioner
from undiffuse.conditioners.palette import paint
from undiffuse.conditioners.text import TextConditioner
from undiffuse.core.conditioning import Conditioning
from undiffuse.core.pictures import to_images
from undiffuse.generation.given import given_by
from undiffuse.generation.request import Request
from undiffuse.model.latent_diffusion import LatentDiffusion

RECALLED = 6  # pictures that words called to mind, shown at most
LEAST_SHARE = 0.01  # of the probability, for a picture to be shown


@dataclass(frozen=True, eq=False)
class Entrance:
    """One context of a model, with what it delivered for this drawing.

    `tokens` (N, D), `vector` (D,) and `spatial` (S, h, w) are None where the part takes another way. `given` are the pictures
    that were shown to it, by name; `sketch` is the map decoded, where words were made into one, and `recalled` the training
    pictures that they called to mind, each with its probability; `agreeing` tells whether what is around a hole counted in
    both, and `recognised` whether, instead, the sketch is the picture completed with things found in it. `said` tells whether
    it was told anything, and `instead` which words were read as which others. `weight` is the root mean square of what the
    first convolution multiplies its channels by.
    """

    kind: str
    said: bool
    instead: dict[str, str]
    guided: bool
    tokens: Tensor | None
    vector: Tensor | None
    spatial: Tensor | None
    given: dict[str, Image.Image]
    sketch: Image.Image | None
    recalled: list[tuple[float, Image.Image]]
    agreeing: bool
    recognised: bool
    weight: float | None


@torch.no_grad()
def entrances(request: Request, readings: Mapping[str, Any], model: LatentDiffusion, size: Size) -> list[Entrance]:
    """Every context that the model learned, in its order; `readings` are those of the settled request."""
    given = given_by(request, model)
    first = model.spec.codec.autoencoder.latent_channels
    found = []
    for spec, part in zip(model.spec.conditioners, model.conditioner.parts, strict=True):
        cond = part([readings], size)
        spatial = None if cond.spatial is None else cond.spatial[0].float().cpu()
        weight = None
        if spatial is not None:
            weight = first_weight(model, first, first + len(spatial))
            first += len(spatial)
        shown = _shown(part, given)
        closes = isinstance(part, TextConditioner) and part.closes(readings)
        recognised = closes and readings.get("sketch") is not None
        found.append(
            Entrance(
                kind=spec.kind,
                said=any(_is_said(readings.get(name)) for name in part.readings),
                instead=part.read_as(given["caption"] or ""),
                guided=part.guided,
                tokens=None if cond.tokens is None else cond.tokens[0].float().cpu(),
                vector=None if cond.vector is None else cond.vector[0].float().cpu(),
                spatial=spatial,
                given=shown,
                sketch=_sketch(part, cond, model),
                recalled=[] if recognised else _recalled(part, readings, model),
                agreeing=closes and not recognised,
                recognised=recognised,
                weight=weight,
            )
        )
    return found


def _sketch(part: ConditionerPart, cond: Conditioning, model: LatentDiffusion) -> Image.Image | None:
    """The sketch that a part laid beside the latent, as the decoder shows it; None where it made none."""
    if cond.spatial is None or not isinstance(part, TextConditioner):
        return None
    return to_images(model.codec.decode(cond.spatial.to(model.device)))[0]


def _recalled(part: ConditionerPart, readings: Mapping[str, Any], model: LatentDiffusion) -> list[tuple[float, Image.Image]]:
    """Remembered pictures that a caption speaks for, as the decoder shows what is kept of them; the likeliest first."""
    if not isinstance(part, TextConditioner):
        return []
    shares, maps = part.called_to_mind(readings, RECALLED)
    worth = shares >= LEAST_SHARE
    if not bool(worth.any()):
        return []
    return list(zip(shares[worth].tolist(), to_images(model.codec.decode(maps[worth].to(model.device))), strict=True))


def first_weight(model: LatentDiffusion, start: int, stop: int) -> float | None:
    """Root mean square of the first convolution's weights for these of its input channels; None if the net is none of ours."""
    convolution = getattr(model.denoiser.network, "first", None)
    weight = getattr(convolution, "weight", None)
    return None if weight is None else float(weight[:, start:stop].detach().double().square().mean().sqrt())


def _is_said(value: Any) -> bool:
    return value is not None and not (isinstance(value, str | list | tuple) and len(value) == 0)


def _shown(part: ConditionerPart, given: Mapping[str, Any]) -> dict[str, Image.Image]:
    """The pictures that a part was shown, as it was shown them."""
    found: dict[str, Image.Image] = {}
    for name in part.fields:
        value = given.get(name)
        if not isinstance(value, Tensor):
            continue
        if name == "mask":
            hidden = (value > 0).float()
            found["picture with its hole"] = to_images((given["image"] * (1 - hidden))[None])[0]
            found["mask"] = to_images((hidden * 2 - 1).expand(3, -1, -1)[None])[0]
        elif isinstance(part, MapConditioner):
            found["map"] = paint(Image.fromarray(value.to(torch.uint8).numpy()), part.classes)
        elif value.ndim == 3 and len(value) == 3:
            found[name] = to_images(value[None])[0]
    return found
