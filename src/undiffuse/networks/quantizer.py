"""Vector quantisation: a latent is replaced by the nearest of a learned set of codes (van den Oord et al. 2017)."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from undiffuse.networks.autoencoder import ConvolutionalAutoencoder

DISTANCES_AT_ONCE = 2**24  # 64 MiB of float32


class Quantized(NamedTuple):
    """Latents that are codes (B, C, h, w), which ones (B, h, w), and the two terms that draw both together."""

    z: Tensor
    indices: Tensor
    codebook: Tensor  # moves codes towards latents
    commitment: Tensor  # moves latents towards codes; its weight is the beta of the paper


class VectorQuantizer(nn.Module):
    """The nearest code for every position, with the gradient passed straight through.

    The codebook term is the mean of |sg[z] - e|^2 over latent elements, the commitment term that of |z - sg[e]|^2,
    where sg stops gradients (van den Oord et al. 2017, eq. 3). Both are without their weights.

    Args:
        codes: how many there are; they start uniform in [-1/codes, 1/codes], as in the original.
        channels: length of a code.
    """

    def __init__(self, codes: int, channels: int) -> None:
        super().__init__()
        self.codes = nn.Parameter(torch.empty(codes, channels).uniform_(-1 / codes, 1 / codes))

    @torch.no_grad()
    def nearest(self, z: Tensor) -> Tensor:
        """Indices (B, h, w) of the codes that are nearest to latents (B, C, h, w), computed in float32 at least."""
        with torch.autocast(z.device.type, enabled=False):
            dtype = torch.promote_types(z.dtype, torch.float32)
            rows, codes = z.movedim(1, -1).flatten(0, -2).to(dtype), self.codes.to(dtype)  # (Bhw, C), (K, C)
            lengths = codes.square().sum(1)
            parts = rows.split(max(1, DISTANCES_AT_ONCE // len(codes)))
            found = [torch.addmm(lengths, part, codes.T, alpha=-2).argmin(1) for part in parts]  # less |z|^2: the same order
        return torch.cat(found).view(len(z), *z.shape[2:])

    def look_up(self, indices: Tensor) -> Tensor:
        """The codes (B, C, h, w) of these indices (B, h, w)."""
        return self.codes[indices].movedim(-1, 1)

    def forward(self, z: Tensor) -> Quantized:
        """Quantise latents (B, C, h, w)."""
        indices = self.nearest(z)
        codes = self.look_up(indices)  # (B, C, h, w)
        exact = torch.promote_types(z.dtype, torch.float32)
        z, codes = z.to(exact), codes.to(exact)
        codebook = (z.detach() - codes).square().mean()
        commitment = (z - codes.detach()).square().mean()
        return Quantized((z + (codes - z).detach()).to(self.codes.dtype), indices, codebook, commitment)

    @torch.no_grad()
    def start_at(self, latents: Tensor) -> None:
        """Let the codes begin at these latents (N, C), which are repeated when there are too few."""
        rows = torch.arange(len(self.codes)) % len(latents)
        self.codes.copy_(latents[rows])


class VQAutoencoder(ConvolutionalAutoencoder):
    """Pictures to latents, and latents to pictures through the nearest codes (Esser et al. 2021).

    Diffusion works on latents before they are quantised; quantising is the first thing that decoding does
    (Rombach et al. 2022, section 3.1).

    Args:
        codes: size of the codebook.
        options: those of `ConvolutionalAutoencoder`, without `moments`.
    """

    def __init__(self, *, codes: int, latent_channels: int, **options: Any) -> None:
        super().__init__(1, latent_channels=latent_channels, **options)
        self.quantizer = VectorQuantizer(codes, latent_channels)

    def freeze_encoder(self) -> None:
        """The codes stay as well: they are what latents are taken for."""
        super().freeze_encoder()
        self.quantizer.requires_grad_(False)

    def decode(self, z: Tensor) -> Tensor:
        """Latents (B, C, h, w), quantised or not, to pictures (B, 3, h*f, w*f), about [-1, 1]."""
        return super().decode(self.quantizer(z).z)

    def forward(self, x: Tensor) -> tuple[Tensor, Quantized]:
        """Reconstruction (B, 3, H, W) through the nearest codes, with what the quantiser did."""
        quantized = self.quantizer(self.encode(x)[0])
        return super().decode(quantized.z), quantized


def code_use(counts: Tensor) -> tuple[Tensor, Tensor]:
    """The share of a codebook that is used at all, and its perplexity: as many codes used evenly would say as much.

    `counts` (K,) says how often each code was used.
    """
    share = counts.float() / counts.sum()
    return counts.count_nonzero() / len(counts), torch.special.entr(share).sum().exp()
