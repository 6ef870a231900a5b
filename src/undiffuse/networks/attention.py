"""Attention and the spatial transformer that gives a U-Net its context (Rombach et al. 2022, section 3.3)."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.jit._trace import is_tracing

from undiffuse.networks.attend import attend
from undiffuse.networks.blocks import group_norm
from undiffuse.networks.strips import is_own

Probe = Callable[[Tensor], None]


class Attention(nn.Module):
    """Multi-head attention of tokens to a context, or to themselves.

    `probe`, when somebody sets it, is called with the weights (B, heads, N, M); it is None by default, and
    then the fused kernel is used, which never holds them.
    """

    def __init__(self, width: int, context_width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_query = nn.Linear(width, width, bias=False)
        self.to_key = nn.Linear(context_width, width, bias=False)
        self.to_value = nn.Linear(context_width, width, bias=False)
        self.to_out = nn.Linear(width, width)
        self.probe: Probe | None = None

    def forward(self, x: Tensor, context: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mix `context` (B, M, D) into an update for `x` (B, N, C); `mask` (B, M) is true where tokens count."""
        query = self._split(self.to_query(x))  # (B, heads, N, C/heads)
        key = self._split(self.to_key(context))  # (B, heads, M, C/heads)
        value = self._split(self.to_value(context))  # (B, heads, M, C/heads)
        keep = None if mask is None else mask[:, None, None, :]  # (B, 1, 1, M)
        if self.probe is not None:
            self.probe(attention_weights(query, key, keep))
        mixed = attend(query, key, value, keep)
        return self.to_out(mixed.transpose(1, 2).flatten(2))  # (B, N, C)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)


def attention_weights(query: Tensor, key: Tensor, keep: Tensor | None = None) -> Tensor:
    """softmax(Q K^T / sqrt(d)) (B, heads, N, M) from Q (B, heads, N, d) and K (B, heads, M, d) (Vaswani et al. 2017, eq. 1)."""
    logits = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
    if keep is not None:
        logits = logits.masked_fill(~keep, float("-inf"))
    return torch.softmax(logits, dim=-1)


class GatedFeedForward(nn.Module):
    """A feed-forward net of inner width 4C whose GELU gate multiplies its values (GEGLU, Shazeer 2020)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.widen = nn.Linear(width, 8 * width)
        self.narrow = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        if self._apart(x):
            weight, bias = self.widen.weight.chunk(2), self.widen.bias.chunk(2)
            value, gate = (F.linear(x, *half) for half in zip(weight, bias, strict=True))  # (B, N, 4C) each
        else:
            value, gate = self.widen(x).chunk(2, dim=-1)
        return self.narrow(value * F.gelu(gate))  # (B, N, C)

    def _apart(self, x: Tensor) -> bool:
        """Whether two products whose answers lie apart are quicker: in half precision on a CPU, and in its graphs."""
        return x.device.type == "cpu" and (x.dtype != torch.float32 or is_tracing()) and is_own(self.widen)


class TransformerBlock(nn.Module):
    """Self-attention, cross-attention when there is a context, feed-forward; each on normalised input, each added.

    With `cross_only` the first attention too is to the context, as where Stable Diffusion's x4 upscaler has large maps.
    """

    def __init__(self, width: int, heads: int, context_width: int | None, cross_only: bool = False) -> None:
        super().__init__()
        self.cross_only = cross_only
        self.norm_self = nn.LayerNorm(width)
        self.attend_self = Attention(width, (context_width or width) if cross_only else width, heads)
        self.norm_cross = nn.LayerNorm(width) if context_width else None
        self.attend_cross = Attention(width, context_width, heads) if context_width else None
        self.norm_feed = nn.LayerNorm(width)
        self.feed = GatedFeedForward(width)

    def forward(self, x: Tensor, context: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        h = self.norm_self(x)  # (B, N, C)
        x = x + (self.attend_self(h, context, mask) if self.cross_only and context is not None else self.attend_self(h, h))
        if self.attend_cross is not None and self.norm_cross is not None and context is not None:
            x = x + self.attend_cross(self.norm_cross(x), context, mask)
        return x + self.feed(self.norm_feed(x))


class SpatialTransformer(nn.Module):
    """Transformer blocks over the positions of a feature map, projected in and out, added to it.

    `linear_projection` applies the projections to tokens (SD 2.x, XL) instead of to the map (LDM, SD 1.x);
    the arithmetic is the same. The outward projection starts at zero.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        depth: int,
        context_width: int | None,
        linear_projection: bool,
        cross_only: bool = False,
    ) -> None:
        super().__init__()
        self.linear_projection = linear_projection
        self.norm = group_norm(width, eps=1e-6)
        self.into: nn.Module = nn.Linear(width, width) if linear_projection else nn.Conv2d(width, width, 1)
        self.blocks = nn.ModuleList(TransformerBlock(width, heads, context_width, cross_only) for _ in range(depth))
        self.out = nn.Linear(width, width) if linear_projection else nn.Conv2d(width, width, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, context: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        shape = x.shape[-2:]
        h = self.norm(x)  # (B, C, H, W)
        h = self.into(_tokens(h)) if self.linear_projection else _tokens(self.into(h))  # (B, HW, C)
        for block in self.blocks:
            h = block(h, context, mask)
        h = _map(self.out(h), shape) if self.linear_projection else self.out(_map(h, shape))  # (B, C, H, W)
        return x + h


def _tokens(x: Tensor) -> Tensor:
    """(B, C, H, W) to (B, HW, C), each token's channels side by side: no copy when x is channels-last."""
    return x.permute(0, 2, 3, 1).flatten(1, 2).contiguous()


def _map(x: Tensor, shape: torch.Size) -> Tensor:
    """(B, HW, C) to (B, C, H, W), channels-last in memory: no copy."""
    return x.unflatten(1, tuple(shape)).permute(0, 3, 1, 2)
