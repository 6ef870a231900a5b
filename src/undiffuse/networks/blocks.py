"""Blocks that the U-Net and the autoencoder share."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.jit._trace import is_tracing

from undiffuse.networks.attend import attend
from undiffuse.networks.strips import is_own, is_plain, normed_convolution, pays, strip_rows

GROUPS = 32
FOLDED_FROM = 64 * 64
"""Positions from which on `Upsample` folds its kernel; below, making the four kernels costs more than they save."""


def group_norm(width: int, eps: float, fewest: int = 1) -> nn.GroupNorm:
    """GroupNorm with 32 groups, or with the largest divisor of `width` below that which leaves a group `fewest` channels."""
    groups = next(g for g in range(max(1, min(GROUPS, width // fewest)), 0, -1) if width % g == 0)
    return nn.GroupNorm(groups, width, eps=eps)


def silu(x: Tensor) -> Tensor:
    """SiLU of a tensor that nobody else holds: in its own memory where no gradient is wanted."""
    return F.silu(x, inplace=not torch.is_grad_enabled())


def last_layers(x: Tensor, norm: nn.GroupNorm, convolution: nn.Conv2d) -> Tensor:
    """convolution(silu(norm(x))), with which a net ends; in strips where that pays."""
    return normed_convolution(x, norm, convolution) if pays(x, norm, convolution) else convolution(silu(norm(x)))


class Upsample(nn.Module):
    """Double height and width: nearest neighbour, then a 3x3 convolution.

    Without gradients a large map is never doubled for it: a 3x3 kernel on doubled rows sees only two different ones, so
    each of the four phases is a 2x2 convolution of what comes in, by 4/9 of the products. A graph, which makes its kernels
    once, does the same by a transposed convolution.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        if is_tracing() and is_own(self, self.conv):
            return F.conv_transpose2d(x, transposed_kernel(self.conv.weight), self.conv.bias, stride=2, padding=1)
        small = x.shape[-2] * x.shape[-1] < FOLDED_FROM
        if small or not is_plain(self, self.conv):
            return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))  # (B, C, 2H, 2W)
        return self._in_phases(x)

    def _in_phases(self, x: Tensor) -> Tensor:
        batch, _, height, width = x.shape
        kernels = phase_kernels(self.conv.weight)
        out = x.new_empty(batch, len(self.conv.weight), 2 * height, 2 * width)
        rows = strip_rows(x)
        for top in range(0, height, rows):
            bottom = min(top + rows, height)
            above, below = max(top - 1, 0), min(bottom + 1, height)
            padded = F.pad(x[:, :, above:below], (1, 1, int(above == top), int(below == bottom)))  # (B, C, h + 2, W + 2)
            for row in (0, 1):
                for column in (0, 1):
                    seen = padded[:, :, row : row + bottom - top + 1, column : column + width + 1]
                    phase = F.conv2d(seen, kernels[row][column], self.conv.bias)  # (B, O, h, W)
                    out[:, :, 2 * top + row : 2 * bottom : 2, column::2] = phase
        return out


def phase_kernels(weight: Tensor) -> list[list[Tensor]]:
    """The 2x2 kernels (O, C, 2, 2) by row and column phase that a 3x3 kernel (O, C, 3, 3) is on a doubled map."""

    def folded(kernel: Tensor, dim: int) -> list[Tensor]:
        first, second, third = kernel.unbind(dim)
        return [torch.stack(pair, dim) for pair in ((first, second + third), (first + second, third))]

    exact = weight.float()
    return [[kernel.to(weight.dtype) for kernel in folded(rows, 3)] for rows in folded(exact, 2)]


def transposed_kernel(weight: Tensor) -> Tensor:
    """The 4x4 kernel (C, O, 4, 4) by which a transposed convolution of stride 2 does what `weight` does on a doubled map."""

    def folded(kernel: Tensor, dim: int) -> Tensor:
        first, second, third = kernel.unbind(dim)
        return torch.stack([third, second + third, first + second, first], dim)

    return folded(folded(weight.float(), 2), 3).to(weight.dtype).transpose(0, 1)


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
        if embedding is None and pays(x, *self.children()):
            h = normed_convolution(x, self.norm1, self.conv1)
            return normed_convolution(h, self.norm2, self.conv2, beside=(x, self.skip), spend=True)
        h = self.conv1(silu(self.norm1(x)))  # (B, out, H, W)
        if self.embedding is not None and embedding is not None:
            h = h + self.embedding(F.silu(embedding))[:, :, None, None]  # (B, out, 1, 1)
        h = self.norm2(h)  # the map before it is free again
        h = self.conv2(self.dropout(silu(h)))  # (B, out, H, W)
        return self.skip(x) + h if torch.is_grad_enabled() else h.add_(self.skip(x))


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
        mixed = attend(query, key, value)  # (B, HW, C)
        return x + self.out(mixed.transpose(1, 2).unflatten(2, (height, width)))  # (B, C, H, W)
