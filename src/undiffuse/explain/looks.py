"""Latents, maps and differences as pictures to look at."""

from __future__ import annotations

import time

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from undiffuse.core.pictures import to_images, to_pixels
from undiffuse.model.latent_diffusion import LatentDiffusion

PATIENCE = 40.0  # seconds that decoding everything for one page may take
NEGATIVE, ZERO, POSITIVE = (20, 92, 158), (246, 244, 238), (196, 84, 22)  # told apart with red-green blindness too
HEAT = np.array([(12, 10, 22), (92, 24, 92), (206, 66, 64), (251, 165, 60), (252, 250, 190)], dtype=float)
DARKEST = 0.14  # what is left of a picture where least attention lies


class Viewer:
    """Shows latents as pictures, in the best way that is quick enough here.

    `how` tells which: "decoder", "preview" (the model's quick second decoder), or "linear": a map from latent channels to
    colours, fitted to this very picture by least squares.

    Args:
        model: whose codec decodes.
        z: the finished latent (C, h, w).
        picture: what it decodes to.
        count: how many latents will be shown.
    """

    def __init__(self, model: LatentDiffusion, z: Tensor, picture: Image.Image, count: int) -> None:
        self._model = model
        self.seconds = self._time(z)
        self.how = "decoder"
        if self.seconds * count > PATIENCE:
            self.how = "linear" if model.codec.previewer is None else "preview"
        if self.how == "linear":
            self._map = fit_colours(z, picture)

    def __call__(self, z: Tensor) -> list[Image.Image]:
        """Pictures of latents (B, C, h, w)."""
        with torch.no_grad():
            if self.how == "linear":
                return to_images(coloured(z, self._map))
            there = z.to(self._model.device)
            show = self._model.codec.decode if self.how == "decoder" else self._model.codec.preview
            return [image for one in there for image in to_images(show(one[None]))]

    def _time(self, z: Tensor) -> float:
        """Seconds of one decoding, once warm."""
        with torch.no_grad():
            self._model.codec.decode(z[None].to(self._model.device))
            started = time.perf_counter()
            self._model.codec.decode(z[None].to(self._model.device)).cpu()
            return time.perf_counter() - started


def fit_colours(z: Tensor, picture: Image.Image) -> Tensor:
    """The affine map (C + 1, 3) from a latent (C, h, w) to its picture in the latent's size, by least squares."""
    height, width = z.shape[1:]
    small = F.interpolate(to_pixels(picture)[None], (height, width), mode="area")[0]
    return torch.linalg.lstsq(_affine(z).double(), small.flatten(1).T.double()).solution.float()


def coloured(z: Tensor, weights: Tensor) -> Tensor:
    """Latents (B, C, h, w) through such a map: pixels (B, 3, h, w)."""
    return torch.stack([(_affine(one) @ weights).T.unflatten(1, one.shape[1:]) for one in z])


def _affine(z: Tensor) -> Tensor:
    """Positions of (C, h, w) as rows (h * w, C + 1) with a 1 behind."""
    rows = z.flatten(1).T.cpu().float()
    return torch.cat([rows, torch.ones(len(rows), 1)], dim=1)


def channel_images(z: Tensor, most: float | None = None) -> list[Image.Image]:
    """Each channel of (C, h, w) by sign and size: blue below zero, orange above, full at `most` in all of them."""
    most = most or float(z.abs().max()) or 1.0
    share = (z.float() / most).clamp(-1, 1).cpu().numpy()[..., None]  # (C, h, w, 1)
    zero, ends = np.array(ZERO), np.where(share < 0, np.array(NEGATIVE), np.array(POSITIVE))
    return [Image.fromarray(levels) for levels in (zero + (ends - zero) * abs(share)).round().astype(np.uint8)]


def heat_image(values: Tensor, most: float | None = None) -> Image.Image:
    """A map (h, w) of what is never negative, from black over red to pale yellow at `most`."""
    most = most or float(values.max()) or 1.0
    place = (values.float() / most).clamp(0, 1).cpu().numpy() * (len(HEAT) - 1)
    below = np.minimum(place.astype(int), len(HEAT) - 2)
    share = (place - below)[..., None]
    return Image.fromarray((HEAT[below] * (1 - share) + HEAT[below + 1] * share).round().astype(np.uint8))


def lit(picture: Image.Image, attention: Tensor) -> Image.Image:
    """The picture, as it is where most attention (r, c) lies, and dark where least."""
    least, most = float(attention.min()), float(attention.max())
    shares = (attention - least) / (most - least) if most > least else torch.ones_like(attention)
    levels = to_images(shares[None, None].expand(1, 3, -1, -1) * 2 - 1)[0].convert("L")
    mask = np.asarray(levels.resize(picture.size, Image.Resampling.BICUBIC), dtype=float)[..., None] / 255
    pixels = np.asarray(picture.convert("RGB"), dtype=float)
    return Image.fromarray((pixels * (DARKEST + (1 - DARKEST) * mask)).round().clip(0, 255).astype(np.uint8))


def difference(a: Image.Image, b: Image.Image) -> Tensor:
    """How far two pictures of one size are apart (H, W): mean of the colours' distances, of 255."""
    return (to_pixels(a) - to_pixels(b)).abs().mean(0) * 127.5
