"""`Codec`: pictures to normalised latents and back."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from undiffuse.core.errors import SpecError, explain
from undiffuse.networks.autoencoder import Autoencoder


class Codec(nn.Module):
    """An autoencoder with the normalisation of its latents, z = (mean - shift) * scale.

    The paper scales latents by one number taken from the first batch (Rombach et al. 2022, appendix G);
    here shift and scale are per channel, from statistics over the whole training set.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, autoencoder: Autoencoder, shift: Tensor, scale: Tensor, factor: int, channels: int) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.factor = factor
        self.channels = channels
        self.register_buffer("shift", shift.float().view(1, -1, 1, 1), persistent=False)
        self.register_buffer("scale", scale.float().view(1, -1, 1, 1), persistent=False)

    def encode(self, pixels: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) in [-1, 1] to normalised latents (B, C, H/f, W/f): the posterior's mean.

        Raises:
            SpecError: when H or W is no multiple of the factor.
        """
        height, width = pixels.shape[-2:]
        if height % self.factor or width % self.factor:
            given = f"a picture of {width}x{height} cannot be encoded"
            raise SpecError(explain(given, f"both sides must be multiples of {self.factor}", "resize or crop it"))
        mean, _ = self.autoencoder.encode(pixels.to(self._dtype))
        return (mean - self.shift) * self.scale

    def decode(self, z: Tensor) -> Tensor:
        """Normalised latents (B, C, h, w) to pictures (B, 3, h*f, w*f) in [-1, 1]."""
        return self.autoencoder.decode((z / self.scale + self.shift).to(self._dtype)).to(z.dtype).clamp(-1, 1)

    def forward(self, pixels: Tensor) -> Tensor:
        """The round trip that evaluation measures: decode(encode(pixels))."""
        return self.decode(self.encode(pixels))

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.shift.device

    @property
    def _dtype(self) -> torch.dtype:
        """The precision of the weights; pictures and latents keep their own outside."""
        return next(self.autoencoder.parameters()).dtype
