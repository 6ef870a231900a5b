"""What a request says, in the form that the parts of a conditioner read, and what guidance compares it with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from undiffuse.checkpoints.efficientnet import find_efficientnet, load_efficientnet
from undiffuse.conditioners.base import Sight
from undiffuse.conditioners.maps import MapConditioner
from undiffuse.conditioners.palette import read_painting
from undiffuse.conditioners.text import TextConditioner
from undiffuse.core.pictures import to_images, to_pixels
from undiffuse.generation.lora_tags import spoken
from undiffuse.generation.recognition import MOST, completed, cut_out, recognised
from undiffuse.generation.request import Request
from undiffuse.generation.seeds.numbers import numbers_of
from undiffuse.generation.window import Window
from undiffuse.model.latent_diffusion import LatentDiffusion

FEATURES = 1280  # of EfficientNet-Lite0
SURE = 0.5  # enough, of a picture's being one of those remembered, not to look for things in it
LONGEST = 512  # pixels of the longer side of a picture, in which things are looked for
LIKELIEST = 8  # remembered things of a name, which a thing beside a hole may be


def sight_of(model: LatentDiffusion, size: tuple[int, int]) -> Sight:
    """What parts look at pictures through, for a picture of this height and width."""
    return Sight(lambda pixels: model.codec.encode(pixels.to(model.device)), describer(model.device), size)


def describer(device: torch.device) -> Callable[[Tensor], Tensor]:
    """EfficientNet-Lite0's features (B, 1280) of pixels (B, 3, H, W); its weights are read when first asked."""
    return lambda pixels: _backbone(str(device)).embed(pixels.float().to(device))


@cache
def _backbone(device: str) -> Any:
    return load_efficientnet().to(device).eval()


def given_by(request: Request, model: LatentDiffusion) -> dict[str, Any]:
    """Everything that a settled request says, by the field that a part reads.

    Pictures become pixels (3, H, W) in the size that is drawn, masks (1, H, W), maps class indices (H, W).
    """
    size = (request.width or model.spec.size, request.height or model.spec.size)
    window = window_of(request, model)
    given: dict[str, Any] = {"caption": spoken(request), "label": request.label, "boxes": list(request.boxes)}
    given |= {"clip_skip": request.clip_skip, "noise_level": request.noise_level}
    if request.image is not None and request.mask is not None and window is not None:
        given["image"] = to_pixels(window.cut(request.image))
        given["mask"] = torch.from_numpy(np.asarray(window.cut_mask(request.mask)).astype(np.float32) / 255)[None]
    if request.layout is not None:
        given["layout"] = _indices(request.layout, model, size)
    if request.small is not None:
        given["small"] = to_pixels(request.small)
    if request.like is not None:
        given["like"] = to_pixels(fit(request.like, (model.spec.size, model.spec.size)))
    if request.depth is not None:
        given["depth"] = _levels(request.depth, request.image, window, size)
    return given | {name: _plain(value, size) for name, value in request.context.items()}


def readings_of(request: Request, model: LatentDiffusion, noise: Tensor | None = None) -> dict[str, Any]:
    """Readings of everything that a settled request says; latents are drawn with `noise` (1, C, h, w) if there is some."""
    size = (request.height or model.spec.size, request.width or model.spec.size)
    latent = (model.codec.channels, *(side // model.codec.factor for side in size))
    sight = replace(sight_of(model, size), noise=numbers_of(request, latent).hidden)
    if noise is not None:
        sight = replace(sight, encode=lambda pixels: model.codec.draw(pixels.to(model.device), noise))
    row = model.conditioner.read([given_by(request, model)], sight)[0]
    sketch = _completed(request, row, model)
    return row if sketch is None else {**row, "sketch": sketch}


def sketching(model: LatentDiffusion) -> TextConditioner | None:
    """The part that makes a sketch of what words say; None where a model has none."""
    parts = (part for part in model.conditioner.parts if isinstance(part, TextConditioner) and part.sketcher is not None)
    return next(parts, None)


@torch.no_grad()
def _completed(request: Request, row: dict[str, Any], model: LatentDiffusion) -> Tensor | None:
    """The latent (C, h, w) of what is drawn, completed with things that are recognised beside a hole; None without any.

    They are looked for in the whole picture, but not where one is remembered that agrees with what is drawn as it is. Nor is
    it completed if the hole hides nothing of them and something else was named, which is to come into it.
    """
    part, window = sketching(model), window_of(request, model)
    if part is None or part.sketcher is None or not part.closes(row) or part.agrees(row) > SURE:
        return None
    assert request.image is not None and request.mask is not None and window is not None, "a hole was read of them"
    width, height = request.image.size
    shrunk = max(1.0, max(width, height) / LONGEST)
    whole = Window((0, 0, width, height), (max(1, round(width / shrunk)), max(1, round(height / shrunk))))
    picture, hidden = to_pixels(whole.cut(request.image)), torch.from_numpy(np.array(whole.cut_mask(request.mask)) > 0)
    if hidden.all():
        return None
    things = [part.things(name, LIKELIEST) for name in part.names_in(row["caption"])[:MOST]]
    cutouts = [one for some in things for one in cut_out(some, model.codec)]
    found = recognised(picture, ~hidden, cutouts, min(hidden.shape) / (part.sketcher.side * model.codec.factor))
    if not found or (len(found) < len(things) and not any(one.lies_in(hidden) for one in found)):
        return None
    image = to_images(completed(picture, ~hidden, found)[None])[0].resize((width, height), Image.Resampling.LANCZOS)
    return model.codec.encode(to_pixels(window.cut(image))[None].to(model.device))[0].cpu()


def check_readable(request: Request, model: LatentDiffusion) -> None:
    """Refuse what the model would refuse when it draws this settled request; no net looks at a picture for that.

    Raises:
        DataError: when a map, a box or another context is of no use to the model.
        SpecError: for a label that it has not learned.
        DependencyError: when a picture is to be resembled and the weights that see likeness are not installed.
    """
    if request.like is not None:
        find_efficientnet()
    size = (request.height or model.spec.size, request.width or model.spec.size)
    channels, factor = model.codec.channels, model.codec.factor
    blind = Sight(
        lambda pixels: torch.zeros(len(pixels), channels, pixels.shape[2] // factor, pixels.shape[3] // factor),
        lambda pixels: torch.zeros(len(pixels), FEATURES),
        size,
        torch.zeros,
    )
    model.conditioner.read([given_by(request, model)], blind)


def window_of(request: Request, model: LatentDiffusion) -> Window | None:
    """The part of the picture that is drawn anew; None without a mask."""
    if request.mask is None:
        return None
    return Window.around(request.mask, (request.width or model.spec.size, request.height or model.spec.size))


def fit(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The picture cut from its centre to this width and height."""
    return ImageOps.fit(picture, size, Image.Resampling.LANCZOS)


def _indices(layout: Image.Image, model: LatentDiffusion, size: tuple[int, int]) -> Tensor:
    """Class indices (H, W) of an index map or of a painting in the palette's colours."""
    classes = next((part.classes for part in model.conditioner.parts if isinstance(part, MapConditioner)), ())
    indices = layout if layout.mode == "L" or not classes else read_painting(layout, classes)
    return torch.from_numpy(np.array(ImageOps.fit(indices, size, Image.Resampling.NEAREST)))


def _levels(depth: Image.Image, image: Image.Image | None, window: Window | None, size: tuple[int, int]) -> Tensor:
    """Levels (1, H, W) of the part of a depth map that is drawn, in its own resolution.

    That is what the window shows of a map for the whole of the masked picture; of one without a mask the centre, with the
    aspect of the size.
    """
    levels = torch.from_numpy(np.asarray(depth).astype(np.float32))  # (H, W)
    height, width = levels.shape
    if window is not None and image is not None:
        scale = (width / image.width, height / image.height) * 2
        left, top, right, bottom = (round(side * by) for side, by in zip(window.box, scale, strict=True))
    else:
        across, down = min(width, max(1, height * size[0] // size[1])), min(height, max(1, width * size[1] // size[0]))
        left, top = (width - across) // 2, (height - down) // 2
        right, bottom = left + across, top + down
    rows, columns = (torch.arange(low, max(high, low + 1)) for low, high in ((top, bottom), (left, right)))
    return levels[rows.clamp(0, height - 1)][:, columns.clamp(0, width - 1)][None]


def _plain(value: Any, size: tuple[int, int]) -> Any:
    return to_pixels(fit(value, size)) if isinstance(value, Image.Image) else value
