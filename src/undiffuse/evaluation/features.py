"""Pictures of a data set, drawn on white, and the features that compare them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import torch
from PIL import Image, ImageOps
from torch import Tensor

from undiffuse.checkpoints.efficientnet import load_efficientnet
from undiffuse.core.errors import DataError, explain
from undiffuse.core.pictures import to_pixels, to_rgb
from undiffuse.data.dataset import Pictures
from undiffuse.data.records import Problem
from undiffuse.data.render import is_cutout
from undiffuse.networks.efficientnet import EfficientNet

FeatureExtractor = Callable[[Tensor], Tensor]
"""Pictures (B, 3, H, W) in [-1, 1] to one vector each, (B, D) float32 on the CPU."""

MIDDLE = slice(1, 4)  # of the maps of a net: 1/4 to 1/16 of the size, from textures to parts of things


class LocalExtractor(Protocol):
    """A `FeatureExtractor` that also tells what is where."""

    def __call__(self, pixels: Tensor) -> Tensor: ...

    def maps(self, pixels: Tensor) -> list[Tensor]:
        """Pictures (B, 3, H, W) in [-1, 1] to maps (B, C, H/k, W/k) float32 on the CPU, k a size of its own each."""
        ...


Skip = Callable[[Problem], None]
"""Told of a picture that cannot be read and is left out."""


class Lite0:
    """EfficientNet-Lite0 as a `LocalExtractor`: what its classifier sees, (B, 1280), and its maps of middle sizes.

    Args:
        net: with the weights to use.
        device: where it works, in float32 whatever the precision of the model that is measured.
        batch: pictures at once; more are cut into pieces.
    """

    def __init__(self, net: EfficientNet, device: torch.device | str = "cpu", batch: int = 32) -> None:
        self.net = net.to(device).eval()
        self.device = device
        self.batch = batch

    @torch.no_grad()
    def __call__(self, pixels: Tensor) -> Tensor:
        parts = pixels.float().split(self.batch)
        return torch.cat([self.net.embed(part.to(self.device)).cpu() for part in parts])

    @torch.no_grad()
    def maps(self, pixels: Tensor) -> list[Tensor]:
        """Maps (B, 24, H/4, W/4), (B, 40, H/8, W/8) and (B, 112, H/16, W/16) of pictures (B, 3, H, W)."""
        parts = [self.net.features(part.to(self.device))[MIDDLE] for part in pixels.float().split(self.batch)]
        return [torch.cat(maps).cpu() for maps in zip(*parts, strict=True)]


def load_extractor(device: torch.device | str = "cpu") -> Lite0:
    """The extractor of every figure that this room reports.

    Raises:
        DependencyError: when its weights are not installed; they come with the extra `eval`.
        CheckpointError: when they are damaged.
    """
    return Lite0(load_efficientnet(), device)


def pixels_on_white(picture: Image.Image, size: int) -> Tensor:
    """One picture as pixels (3, size, size) in [-1, 1].

    A cut-out stands whole and centred on white, its longer side filling the square; any other picture is
    cut to a square from its centre. Both are what training shows with neither chance nor colour.
    """
    whole, square = to_rgb(picture), (size, size)
    if is_cutout(picture):
        return to_pixels(ImageOps.pad(whole, square, Image.Resampling.LANCZOS, color="white"))
    return to_pixels(ImageOps.fit(whole, square, Image.Resampling.LANCZOS))


def batches_on_white(
    pictures: Pictures, indices: Sequence[int], size: int, batch: int, skip: Skip | None = None
) -> Iterator[tuple[list[int], Tensor]]:
    """These pictures on white, (B, 3, size, size) with `batch` at most, and the index of each.

    Args:
        pictures: where they are read from.
        indices: which ones, in order.
        size: side in pixels.
        batch: pictures at once.
        skip: told of every picture that cannot be read; when None such a picture is an error.

    Raises:
        DataError: when a picture cannot be read and nobody is told, or when none can be read.
    """
    readable, reason = 0, None
    for start in range(0, len(indices), batch):
        kept: list[int] = []
        pixels: list[Tensor] = []
        for index in indices[start : start + batch]:
            try:
                pixels.append(pixels_on_white(pictures.read(index), size))
                kept.append(index)
            except DataError as error:
                if skip is None:
                    raise
                reason = reason or error
                skip(Problem(pictures.rows[index].key, str(error)))
        readable += len(kept)
        if kept:
            yield kept, torch.stack(pixels)
    if not readable:
        given = f"none of the {len(indices)} pictures can be read" + (f" (the first: {reason})" if reason else "")
        raise DataError(explain(given, "at least one is needed", "'undiffuse data check' names what is wrong"))
