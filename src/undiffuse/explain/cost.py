"""What the latent spares: sizes, and seconds of encoder, U-Net and decoder, measured here and now."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from undiffuse.core.conditioning import Conditioning
from undiffuse.core.pictures import to_pixels
from undiffuse.diffusion.level import Level
from undiffuse.explain.compare import decibels_of
from undiffuse.model.latent_diffusion import LatentDiffusion

CALLS = 5


@dataclass(frozen=True)
class Cost:
    """Sizes (channels, height, width) of picture and latent; seconds, the median of a few calls with one picture each.

    `encoded` (C, h, w) is the encoder's latent of the picture, `psnr` in dB what is left of it on the way there and back.
    """

    pixels: tuple[int, ...]
    latent: tuple[int, ...]
    encode: float
    denoise: float
    decode: float
    encoded: Tensor
    psnr: float
    parameters: int

    @property
    def fewer_numbers(self) -> float:
        """How many times fewer numbers a latent is."""
        return _product(self.pixels) / _product(self.latent)

    @property
    def fewer_positions(self) -> float:
        """How many times fewer positions it has: what convolutions, and more so attention, pay for."""
        return _product(self.pixels[1:]) / _product(self.latent[1:])

    @property
    def denoise_pixels(self) -> float:
        """Seconds that a call would take on the pixels, computed: as many times longer as there are positions more."""
        return self.denoise * self.fewer_positions


@torch.no_grad()
def measure_cost(model: LatentDiffusion, picture: Image.Image, level: Level, cond: Conditioning) -> Cost:
    """The cost of one picture, as it was drawn, with the conditioning (1 row) that it was drawn by."""
    pixels = to_pixels(picture)[None].to(model.device)
    z, encode = _timed(lambda: model.codec.encode(pixels).float())
    _, denoise = _timed(lambda: model.denoiser(z, level, cond))
    back, decode = _timed(lambda: model.codec.decode(z))
    return Cost(
        pixels=tuple(pixels.shape[1:]),
        latent=tuple(z.shape[1:]),
        encode=encode,
        denoise=denoise,
        decode=decode,
        encoded=z[0].cpu(),
        psnr=decibels_of(pixels[0].cpu(), back[0].float().cpu()),
        parameters=sum(weight.numel() for weight in model.denoiser.parameters()),
    )


def _timed(call: Callable[[], Tensor]) -> tuple[Tensor, float]:
    """The answer, and the median of the seconds; the first call warms up, slow calls are not repeated often."""
    answer, first = _once(call)
    times = [_once(call)[1] for _ in range(CALLS if first < 1 else 1)]
    return answer, statistics.median(times)


def _once(call: Callable[[], Tensor]) -> tuple[Tensor, float]:
    started = time.perf_counter()
    answer = call()
    answer.flatten()[0].item()  # waits for a GPU
    return answer, time.perf_counter() - started


def _product(sides: tuple[int, ...]) -> int:
    count = 1
    for side in sides:
        count *= side
    return count
