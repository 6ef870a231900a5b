"""A decoder small enough to show every step of a drawing: convolutions and ReLU, no norms and no attention.

It learns from the autoencoder's own decoder (`training/objectives/preview.py`), an idea that TAESD made popular.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class Block(nn.Module):
    """Three 3x3 convolutions beside an identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        h = x  # (B, W, h, w)
        for number, convolution in enumerate(self.convolutions):
            h = convolution(F.relu(h) if number else h)
        return F.relu(x + h)


class TinyDecoder(nn.Module):
    """Latents as the autoencoder gives them, not normalised, to pictures.

    Args:
        latent_channels: channels of a latent.
        out_channels: colour channels of a picture.
        factor: pixels on a side of a picture for one of a latent: `patch` times a power of two.
        width: channels inside, everywhere.
        blocks: blocks at every resolution but the last, which has one.
        patch: pixels on a side that the last convolution gives at once: no convolution runs at a finer resolution.
    """

    def __init__(
        self, *, latent_channels: int, out_channels: int = 3, factor: int, width: int = 64, blocks: int = 3, patch: int = 1
    ) -> None:
        super().__init__()
        self.patch = patch
        self.first = nn.Conv2d(latent_channels, width, 3, padding=1)
        doublings = (factor // patch).bit_length() - 1
        self.levels = nn.ModuleList(nn.Sequential(*(Block(width) for _ in range(blocks))) for _ in range(doublings))
        self.widened = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1, bias=False) for _ in range(doublings))
        self.finest = Block(width)
        self.last = nn.Conv2d(width, out_channels * patch**2, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        x = F.relu(self.first(z))  # (B, W, h, w)
        for level, convolution in zip(self.levels, self.widened, strict=True):
            x = convolution(F.interpolate(level(x), scale_factor=2.0, mode="nearest"))
        return F.pixel_shuffle(self.last(self.finest(x)), self.patch)  # (B, 3, h*f, w*f)
