"""The one verb of the field: `denoise(x, level, cond) -> x0`.

Guidance and every other intervention is a function from denoiser to denoiser.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from undiffuse.core.conditioning import Conditioning
from undiffuse.diffusion.level import Level


class Denoise(Protocol):
    """The clean estimate (B, ...) of x (B, ...) at a level, scalar or (B,), steered by a conditioning of B rows."""

    def __call__(self, x: Tensor, level: Level, cond: Conditioning) -> Tensor: ...
