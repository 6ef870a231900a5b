"""`Level`: one noise level, x_t = alpha * x0 + sigma * noise."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

Number = float | Tensor


@dataclass(frozen=True)
class Level:
    """What the net is told (`t`), and the signal and noise in x_t. Scalars, or tensors (B,) with a level a row.

    `sigma` is the coefficient of the noise at this alpha; k-diffusion's sigma is our sigma / alpha.
    """

    t: Number
    alpha: Number
    sigma: Number

    def expand(self, batch: int, device: torch.device | str | None = None) -> Level:
        """Tensors (B,) in float32 on `device`, the same level in every row if this one is scalar."""
        rows = (torch.as_tensor(value, dtype=torch.float32, device=device) for value in (self.t, self.alpha, self.sigma))
        return Level(*(row.expand(batch) for row in rows))

    def view(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """alpha and sigma, shaped to multiply a tensor (B, ...) row by row, in its precision and on its device."""
        alpha, sigma = (torch.as_tensor(value, dtype=like.dtype, device=like.device) for value in (self.alpha, self.sigma))
        shape = (-1, *([1] * (like.ndim - 1)))
        return alpha.view(shape), sigma.view(shape)

    @property
    def ratio(self) -> float:
        """sigma / alpha of a scalar level, the sigma of k-diffusion; infinite where alpha is 0."""
        return float(self.sigma) / float(self.alpha) if self.alpha else math.inf

    @property
    def snr(self) -> Number:
        """Signal-to-noise ratio alpha^2 / sigma^2; infinite where there is no noise."""
        if isinstance(self.sigma, Tensor) or isinstance(self.alpha, Tensor):
            return torch.as_tensor(self.alpha) ** 2 / torch.as_tensor(self.sigma) ** 2
        return self.alpha**2 / self.sigma**2 if self.sigma else float("inf")
