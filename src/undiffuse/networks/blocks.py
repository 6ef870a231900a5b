"""Blocks that the U-Net and the autoencoder share."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

GROUPS = 32


def group_norm(width: int, eps: float, fewest: int = 1) -> nn.GroupNorm:
    """GroupNorm with 32 groups, or with the largest divisor of `width` below that which leaves a group `fewest` channels."""
    groups = next(g for g in range(max(1, min(GROUPS, width // fewest)), 0, -1) if width % g == 0)
    return nn.GroupNorm(groups, width, eps=eps)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with GroupNorm and SiLU, around them an identity or 1x1 skip (He et al. 2016).

    With `embedding_width` a linear map of the embedding is added between the two (Ho et al. 2020); the norm behind
    it takes two channels a group at least, for one channel alone loses whatever number is added to it.
    The second convolution starts at zero, so the block starts as its skip.
    """

    def __init__(
        self, width_in: int, width_out: int, *, eps: float = 1e-5, embedding_width: int | None = None, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.norm1 = group_norm(width_in, eps)
        self.conv1 = nn.Conv2d(width_in, width_out, 3, padding=1)
        self.embedding = nn.Linear(embedding_width, width_out) if embedding_width else None
        self.norm2 = group_norm(width_out, eps, fewest=2 if embedding_width else 1)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(width_out, width_out, 3, padding=1)
        self.skip = nn.Conv2d(width_in, width_out, 1) if width_in != width_out else nn.Identity()
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, embedding: Tensor | None = None) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))  # (B, out, H, W)
        if self.embedding is not None and embedding is not None:
            h = h + self.embedding(F.silu(embedding))[:, :, None, None]  # (B, out, 1, 1)
        h = self.conv2(self.dropout(F.silu(self.norm2(h))))  # (B, out, H, W)
        return self.skip(x) + h


class SpatialSelfAttention(nn.Module):
    """One-headed self-attention over all positions, with 1x1 convolutions (the autoencoder's kind)."""

    def __init__(self, width: int, *, eps: float = 1e-6) -> None:
        super().__init__()
        self.norm = group_norm(width, eps)
        self.query = nn.Conv2d(width, width, 1)
        self.key = nn.Conv2d(width, width, 1)
        self.value = nn.Conv2d(width, width, 1)
        self.out = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        h = self.norm(x)
        query, key, value = (f(h).flatten(2).transpose(1, 2) for f in (self.query, self.key, self.value))  # (B, HW, C)
        mixed = F.scaled_dot_product_attention(query, key, value)  # (B, HW, C)
        return x + self.out(mixed.transpose(1, 2).unflatten(2, (height, width)))  # (B, C, H, W)
