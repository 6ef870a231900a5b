"""Numbers as vectors: the time step, and whatever else steers the net beside it."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from undiffuse.networks.resting import working_dtype


def sinusoid(t: Tensor, width: int, max_period: float = 10000.0) -> Tensor:
    """Cosines, then sines, of t (B,) at `width / 2` geometric frequencies (B, width) (Ho et al. 2020, appendix B).

    In float32 whatever t comes in: 16 bits cannot tell t = 999 from 1000.
    """
    half = width // 2
    frequencies = torch.exp(-math.log(max_period) / half * torch.arange(half, dtype=torch.float32, device=t.device))
    angles = t.float()[:, None] * frequencies  # (B, width / 2)
    return torch.cat([angles.cos(), angles.sin()], dim=1)


class EmbeddingMLP(nn.Sequential):
    """Linear, SiLU, Linear: (B, D) to (B, width)."""

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__(nn.Linear(width_in, width), nn.SiLU(), nn.Linear(width, width))


class TableEmbedding(nn.Module):
    """A row of a table for each feature, weighed by it and added up: (B, D) to (B, width); of a single 1 it is that row."""

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width_in, width))

    def forward(self, vector: Tensor) -> Tensor:
        return vector @ self.weight  # (B, width)


class TimeEmbedding(nn.Module):
    """The time step t (B,) as a vector (B, out): sinusoid, then an MLP."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.width = width
        self.mlp = EmbeddingMLP(width, out)

    def forward(self, t: Tensor) -> Tensor:
        return self.mlp(sinusoid(t, self.width).to(working_dtype(self.mlp)))  # (B, out)
