"""`Codec`: pictures to normalised latents and back."""

from __future__ import annotations

import logging
import sys

import torch
from torch import Tensor, nn

from undiffuse.core.errors import SpecError, explain
from undiffuse.networks.autoencoder import Coder
from undiffuse.networks.resting import work_in, working_dtype
from undiffuse.networks.tiny_decoder import TinyDecoder

LOG = logging.getLogger(__name__)
BUSY = 2**18  # pixels that keep a CPU busy: more at once take memory, and no less time
BUSY_ELSEWHERE = 2**22


class Codec(nn.Module):
    """An autoencoder with the normalisation of its latents, z = (mean - shift) * scale.

    The paper scales latents by one number taken from the first batch (Rombach et al. 2022, appendix G);
    here shift and scale are per channel, from statistics over the whole training set.
    """

    shift: Tensor
    scale: Tensor

    def __init__(
        self,
        autoencoder: Coder,
        shift: Tensor,
        scale: Tensor,
        factor: int,
        channels: int,
        previewer: TinyDecoder | None = None,
    ) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.previewer = previewer
        self.factor = factor
        self.channels = channels
        self.register_buffer("shift", shift.float().view(1, -1, 1, 1), persistent=False)
        self.register_buffer("scale", scale.float().view(1, -1, 1, 1), persistent=False)

    def encode(self, pixels: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) in [-1, 1] to normalised latents (B, C, H/f, W/f).

        They are the posterior's mean of a KL autoencoder, and what a VQ one has before it quantises: its decoder does that.

        Raises:
            SpecError: when H or W is no multiple of the factor.
        """
        return self.normalise(self.moments(pixels)[0])

    def draw(self, pixels: Tensor, noise: Tensor) -> Tensor:
        """`encode`, but drawn from the posterior with this noise (B, C, H/f, W/f); of a VQ autoencoder the same as `encode`."""
        mean, logvar = self.moments(pixels)
        return self.normalise(mean if logvar is None else mean + (0.5 * logvar).exp() * noise.to(mean))

    def moments(self, pixels: Tensor) -> tuple[Tensor, Tensor | None]:
        """Latents of pictures as the autoencoder gives them, not normalised, and their log-variance if they have one.

        Raises:
            SpecError: when H or W is no multiple of the factor.
        """
        height, width = pixels.shape[-2:]
        if height % self.factor or width % self.factor:
            given = f"a picture of {width}x{height} cannot be encoded"
            raise SpecError(explain(given, f"both sides must be multiples of {self.factor}", "resize or crop it"))
        if len(pixels) > (most := self._at_once(height * width)):
            means, logvars = zip(*(self.moments(some) for some in pixels.split(most)), strict=True)
            return torch.cat(means), None if logvars[0] is None else torch.cat(logvars)
        found = self.autoencoder.encode(pixels.to(self._dtype))
        return self.autoencoder.encode(pixels.float()) if self._overflowed(pixels, found[0]) else found

    def normalise(self, latents: Tensor) -> Tensor:
        """Latents (B, C, h, w) as the autoencoder gives them, as the denoiser sees them."""
        return (latents - self.shift) * self.scale

    def decode(self, z: Tensor) -> Tensor:
        """Normalised latents (B, C, h, w) to pictures (B, 3, h*f, w*f) in [-1, 1]; large ones one after the other."""
        if len(z) > (most := self._at_once(z.shape[-2] * z.shape[-1] * self.factor**2)):
            return torch.cat([self.decode(some) for some in z.split(most)])
        raw, decode = self._raw(z), self.autoencoder.decode
        pixels = decode(raw)
        if self._overflowed(raw, pixels):
            pixels = decode(raw.float())
        return pixels.to(z.dtype).clamp(-1, 1)

    def preview(self, z: Tensor) -> Tensor:
        """What `decode` gives, quickly and roughly where there is a decoder for previews; else the same."""
        if self.previewer is None:
            return self.decode(z)
        return self.previewer(self._raw(z)).to(z.dtype).clamp(-1, 1)

    def _overflowed(self, given: Tensor, found: Tensor) -> bool:
        """Whether half precision was too narrow; then the autoencoder computes in float32 from now on, and that is said."""
        if self._dtype not in (torch.float16, torch.bfloat16) or found.isfinite().all() or not given.isfinite().all():
            return False
        LOG.warning("the autoencoder overflows in half precision; it computes in float32 from now on")
        work_in(self.autoencoder, torch.float32)
        return True

    def _at_once(self, pixels: int) -> int:
        """How many pictures of so many pixels are worked on together when nothing is trained."""
        enough = BUSY if self.device.type == "cpu" else BUSY_ELSEWHERE
        return sys.maxsize if torch.is_grad_enabled() else max(1, enough // pixels)

    def _raw(self, z: Tensor) -> Tensor:
        return (z / self.scale + self.shift).to(self._dtype)

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
        return working_dtype(self.autoencoder)
