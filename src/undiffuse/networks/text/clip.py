"""`CLIPTextEncoder`: the text transformer of CLIP (Radford et al. 2021) and OpenCLIP, from token ids to token states.

| model                | width | layers | heads | activation | projection |
|----------------------|-------|--------|-------|------------|------------|
| SD 1.x: CLIP ViT-L   | 768   | 12     | 12    | quick GELU | none       |
| SD 2.x: OpenCLIP H   | 1024  | 24     | 16    | GELU       | none used  |
| XL: CLIP ViT-L       | 768   | 12     | 12    | quick GELU | none       |
| XL: OpenCLIP bigG    | 1280  | 32     | 20    | GELU       | 1280       |
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from undiffuse.core.errors import SpecError, explain
from undiffuse.core.spec import pick

NORM_EPS = 1e-5
END = 49407  # "<|endoftext|>", the last id of CLIP's vocabulary


def quick_gelu(x: Tensor) -> Tensor:
    """x sigmoid(1.702 x), the cheaper GELU of the first CLIP (Hendrycks & Gimpel 2016)."""
    return x * torch.sigmoid(1.702 * x)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"gelu": F.gelu, "quick_gelu": quick_gelu}


class TextStates(NamedTuple):
    """Token states (B, N, D), and one vector a text (B, P)."""

    tokens: Tensor
    pooled: Tensor


class CausalAttention(nn.Module):
    """Multi-head self-attention in which a token sees itself and those before it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_query = nn.Linear(width, width)
        self.to_key = nn.Linear(width, width)
        self.to_value = nn.Linear(width, width)
        self.to_out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (
            project(x).unflatten(2, (self.heads, -1)).transpose(1, 2) for project in (self.to_query, self.to_key, self.to_value)
        )  # (B, heads, N, D / heads)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.to_out(mixed.transpose(1, 2).flatten(2))  # (B, N, D)


class FeedForward(nn.Module):
    """Two linear maps with an activation between."""

    def __init__(self, width: int, hidden: int, activation: str) -> None:
        super().__init__()
        self.widen = nn.Linear(width, hidden)
        self.narrow = nn.Linear(hidden, width)
        self.activate = ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        return self.narrow(self.activate(self.widen(x)))  # (B, N, D)


class CLIPLayer(nn.Module):
    """Attention and feed-forward, each on normalised input, each added."""

    def __init__(self, width: int, heads: int, hidden: int, activation: str) -> None:
        super().__init__()
        self.norm_attend = nn.LayerNorm(width, eps=NORM_EPS)
        self.attend = CausalAttention(width, heads)
        self.norm_feed = nn.LayerNorm(width, eps=NORM_EPS)
        self.feed = FeedForward(width, hidden, activation)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attend(self.norm_attend(x))  # (B, N, D)
        return x + self.feed(self.norm_feed(x))  # (B, N, D)


class CLIPTextEncoder(nn.Module):
    """Token ids to token states.

    Args:
        vocabulary: number of tokens known.
        width: features of a state.
        layers: number of transformer layers.
        heads: attention heads of a layer.
        hidden: features inside the feed-forward; four times the width when left out.
        positions: the longest text in tokens.
        activation: "quick_gelu" or "gelu".
        projection: features of the pooled vector; None leaves the state as it is.

    Raises:
        SpecError: when the heads do not divide the width, or the activation is unknown.
    """

    def __init__(
        self,
        *,
        vocabulary: int = END + 1,
        width: int,
        layers: int,
        heads: int,
        hidden: int | None = None,
        positions: int = 77,
        activation: str = "quick_gelu",
        projection: int | None = None,
    ) -> None:
        super().__init__()
        pick(ACTIVATIONS, activation, "activation")
        if width % heads:
            raise SpecError(explain(f"width {width} with {heads} heads", "the heads must divide the width"))
        self.width = width
        self.words = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(positions, width)
        self.layers = nn.ModuleList(CLIPLayer(width, heads, hidden or 4 * width, activation) for _ in range(layers))
        self.norm = nn.LayerNorm(width, eps=NORM_EPS)
        self.projection = nn.Linear(width, projection, bias=False) if projection else None

    def forward(self, ids: Tensor, skip: int = 0, normed: bool = True, words: Tensor | None = None) -> TextStates:
        """States of the layer that is `skip` before the last, and the pooled vector of the last.

        Args:
            ids: (B, N); the first end token of each row, or its largest id where there is none, is where it is pooled.
            skip: 0 is the last layer, 1 the one before.
            normed: whether the final norm is applied to the states.
            words: embeddings (B, N, D) in place of those of the ids, where some are learned words.

        Raises:
            SpecError: when there are more tokens than positions, or no such layer.
        """
        if ids.shape[1] > len(self.positions.weight) or not 0 <= skip <= len(self.layers):
            given = f"{ids.shape[1]} tokens, {skip} layers skipped"
            raise SpecError(explain(given, f"up to {len(self.positions.weight)} and {len(self.layers)} are allowed"))
        x = (self.words(ids) if words is None else words) + self.positions.weight[: ids.shape[1]]  # (B, N, D)
        states = [x]
        for layer in self.layers:
            x = layer(x)
            states.append(x)
        tokens, last = states[len(states) - 1 - skip], self.norm(x)
        ends = torch.where((ids == END).any(1), (ids == END).int().argmax(1), ids.argmax(1))  # (B,)
        pooled = last[torch.arange(len(ids), device=ids.device), ends]  # (B, D)
        return TextStates(
            self.norm(tokens) if normed else tokens, pooled if self.projection is None else self.projection(pooled)
        )
