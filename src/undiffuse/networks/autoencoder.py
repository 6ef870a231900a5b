"""Convolutional autoencoders: what all kinds share, and the KL kind (Rombach et al. 2022, appendix G; Esser et al. 2021).

With `patch = 1` and `shortcut = False` the arithmetic is Stable Diffusion's. Two additions make small
autoencoders quick to train on a CPU:

- `patch` folds p x p pixels into channels, so that no convolution runs at full resolution;
- `shortcut` adds a linear projection of every f x f patch beside each half. Started at the principal
  components of real patches (`training/principal.py`), the net begins as PCA and learns what PCA cannot.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import chain
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from undiffuse.networks.blocks import ResidualBlock, SpatialSelfAttention, Upsample, group_norm, last_layers

NORM_EPS = 1e-6
LOGVAR_RANGE = (-30.0, 20.0)
STARTING_LOGVAR = -6.0


class Downsample(nn.Module):
    """Halve height and width: pad right and bottom by one, 3x3 convolution of stride 2."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))  # (B, C, H/2, W/2)


def _middle(width: int, attention: bool) -> nn.Sequential:
    middle: list[nn.Module] = [ResidualBlock(width, width, eps=NORM_EPS)]
    if attention:
        middle.append(SpatialSelfAttention(width, eps=NORM_EPS))
    return nn.Sequential(*middle, ResidualBlock(width, width, eps=NORM_EPS))


class Encoder(nn.Module):
    """Pictures to the moments of their latents: means, and log-variances where there are any."""

    def __init__(
        self, in_channels: int, out_channels: int, widths: Sequence[int], blocks: int, attention: Sequence[int], mid: bool
    ) -> None:
        super().__init__()
        self.first = nn.Conv2d(in_channels, widths[0], 3, padding=1)
        self.levels = nn.ModuleList()
        width = widths[0]
        for level, out in enumerate(widths):
            steps: list[nn.Module] = []
            for _ in range(blocks):
                steps.append(ResidualBlock(width, out, eps=NORM_EPS))
                width = out
                if level in attention:
                    steps.append(SpatialSelfAttention(out, eps=NORM_EPS))
            if level < len(widths) - 1:
                steps.append(Downsample(out))
            self.levels.append(nn.Sequential(*steps))
        self.middle = _middle(width, mid)
        self.norm = group_norm(width, NORM_EPS)
        self.last = nn.Conv2d(width, out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)  # (B, W0, H, W)
        for step in chain.from_iterable(self.levels):  # type: ignore[arg-type]  # one by one: a map is let go when it is used
            x = step(x)
        x = self.middle(x)  # (B, Wn, h, w)
        return last_layers(x, self.norm, self.last)  # (B, out, h, w)


class Decoder(nn.Module):
    """Latents to pictures; `levels` run from the lowest resolution to the highest."""

    def __init__(
        self, in_channels: int, out_channels: int, widths: Sequence[int], blocks: int, attention: Sequence[int], mid: bool
    ) -> None:
        super().__init__()
        width = widths[-1]
        self.first = nn.Conv2d(in_channels, width, 3, padding=1)
        self.middle = _middle(width, mid)
        self.levels = nn.ModuleList()
        for level, out in reversed(list(enumerate(widths))):
            steps: list[nn.Module] = []
            for _ in range(blocks):
                steps.append(ResidualBlock(width, out, eps=NORM_EPS))
                width = out
                if level in attention:
                    steps.append(SpatialSelfAttention(out, eps=NORM_EPS))
            if level > 0:
                steps.append(Upsample(out))
            self.levels.append(nn.Sequential(*steps))
        self.norm = group_norm(width, NORM_EPS)
        self.last = nn.Conv2d(width, out_channels, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        x = self.middle(self.first(z))  # (B, Wn, h, w)
        for step in chain.from_iterable(self.levels):  # type: ignore[arg-type]
            x = step(x)
        return last_layers(x, self.norm, self.last)  # (B, out, H, W)


class Coder(nn.Module, ABC):
    """Pictures to latents and back: what every kind of autoencoder can do.

    `factor` is the pixels on a side of a picture for one on a side of its latent.
    """

    factor: int

    @abstractmethod
    def encode(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Pictures (B, 3, H, W) to latents (B, C, H/f, W/f) and their log-variance; None where a latent is certain."""

    @abstractmethod
    def decode(self, z: Tensor) -> Tensor:
        """Latents (B, C, h, w) to pictures (B, 3, h*f, w*f), about [-1, 1]."""


class ConvolutionalAutoencoder(Coder):
    """Encoder and decoder with a 1x1 convolution between each and the latent.

    Args:
        moments: numbers that the encoder gives for one of a latent: 2 are mean and log-variance, 1 is the latent alone.
        in_channels: colour channels of a picture.
        latent_channels: channels of a latent.
        widths: channels level by level, from the highest resolution down; each level halves it.
        blocks: residual blocks a level in the encoder.
        decoder_blocks: the same in the decoder; one more than `blocks` when left out, as in the original.
        attention_levels: levels with self-attention after every block.
        mid_attention: self-attention at the lowest resolution.
        patch: pixels on a side that are folded into channels at both ends.
        shortcut: linear projections of whole patches beside both halves.
    """

    def __init__(
        self,
        moments: int,
        *,
        in_channels: int = 3,
        latent_channels: int,
        widths: Sequence[int],
        blocks: int = 2,
        decoder_blocks: int | None = None,
        attention_levels: Sequence[int] = (),
        mid_attention: bool = True,
        patch: int = 1,
        shortcut: bool = False,
    ) -> None:
        super().__init__()
        self.factor = patch * 2 ** (len(widths) - 1)
        self.patch = patch
        ends, given = in_channels * patch**2, moments * latent_channels
        self.encoder = Encoder(ends, given, widths, blocks, attention_levels, mid_attention)
        self.decoder = Decoder(latent_channels, ends, widths, decoder_blocks or blocks + 1, attention_levels, mid_attention)
        self.to_moments = nn.Conv2d(given, given, 1)
        self.from_latent = nn.Conv2d(latent_channels, latent_channels, 1)
        self.shortcut_in: nn.Conv2d | None = None
        self.shortcut_out: nn.ConvTranspose2d | None = None
        if shortcut:
            self.shortcut_in = nn.Conv2d(in_channels, latent_channels, self.factor, stride=self.factor)
            self.shortcut_out = nn.ConvTranspose2d(latent_channels, in_channels, self.factor, stride=self.factor)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Pictures (B, 3, H, W) to latents (B, C, H/f, W/f) and their log-variance; None where there is one moment."""
        mean, *rest = self.to_moments(self.encoder(F.pixel_unshuffle(x, self.patch))).split(self.from_latent.in_channels, 1)
        if self.shortcut_in is not None:
            mean = mean + self.shortcut_in(x)
        return mean, rest[0].clamp(*LOGVAR_RANGE) if rest else None

    def decode(self, z: Tensor) -> Tensor:
        """Latents (B, C, h, w) to pictures (B, 3, h*f, w*f), about [-1, 1]."""
        x = F.pixel_shuffle(self.decoder(self.from_latent(z)), self.patch)
        return x if self.shortcut_out is None else x + self.shortcut_out(z)

    def freeze_encoder(self) -> None:
        """Leave everything as it is that decides what a picture's latent is."""
        for part in (self.encoder, self.to_moments, self.shortcut_in):
            if part is not None:
                part.requires_grad_(False)

    @torch.no_grad()
    def start_linear(self, patch_mean: Tensor, components: Tensor, deviations: Tensor) -> None:
        """Start as a linear autoencoder: the shortcuts hold these components, the convolutions add nothing.

        Args:
            patch_mean: (3, f, f) mean patch.
            components: (C, 3, f, f) orthonormal directions.
            deviations: (C,) standard deviation along each, so that latents start with unit variance.
        """
        assert self.shortcut_in is not None and self.shortcut_out is not None and self.shortcut_out.bias is not None
        assert self.shortcut_in.bias is not None
        scale = deviations.view(-1, 1, 1, 1)
        self.shortcut_in.weight.copy_(components / scale)
        self.shortcut_in.bias.copy_(-(components / scale * patch_mean).sum((1, 2, 3)))
        self.shortcut_out.weight.copy_(components * scale)
        self.shortcut_out.bias.copy_(patch_mean.mean((1, 2)))
        nn.init.zeros_(self.decoder.last.weight)
        nn.init.zeros_(self.decoder.last.bias)  # type: ignore[arg-type]
        nn.init.zeros_(self.to_moments.weight)
        nn.init.zeros_(self.to_moments.bias)  # type: ignore[arg-type]
        nn.init.constant_(self.to_moments.bias[len(components) :], STARTING_LOGVAR)  # type: ignore[index]


class Autoencoder(ConvolutionalAutoencoder):
    """Pictures to a diagonal Gaussian over latents, and latents to pictures; arguments as above, without `moments`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(2, **options)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures (B, 3, H, W) to the mean and the log-variance (B, C, H/f, W/f) of their latents."""
        mean, logvar = super().encode(x)
        assert logvar is not None
        return mean, logvar

    def forward(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Reconstruction (B, 3, H, W) through a sampled latent, with the latent's mean and log-variance.

        `noise` (B, C, H/f, W/f) is the standard normal draw of the reparametrisation (Kingma & Welling 2014).
        """
        mean, logvar = self.encode(x)
        return self.decode(mean + torch.exp(0.5 * logvar) * noise), mean, logvar


class Identity(Coder):
    """No autoencoder at all: a latent is the picture itself, and diffusion works on pixels (f = 1 in Rombach et al. 2022)."""

    factor = 1

    def __init__(self, *, in_channels: int = 3) -> None:
        super().__init__()
        self.in_channels = in_channels

    def encode(self, x: Tensor) -> tuple[Tensor, None]:
        """The pictures (B, 3, H, W) as they are."""
        return x, None

    def decode(self, z: Tensor) -> Tensor:
        """The latents (B, 3, H, W) as they are."""
        return z
