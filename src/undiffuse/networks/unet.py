"""The denoising U-Net of latent diffusion (Rombach et al. 2022; Dhariwal & Nichol 2021).

Stable Diffusion 1.x, 2.x and XL are sizes of it: SD 1.x is widths (320, 640, 1280, 1280), depths (1, 1, 1, 0),
8 heads, a context of 768. Names follow the path of the data: `first`, `down`, `middle`, `up`, `last`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from undiffuse.core.conditioning import Conditioning
from undiffuse.core.errors import SpecError, explain
from undiffuse.networks.attention import SpatialTransformer
from undiffuse.networks.blocks import ResidualBlock, Upsample, group_norm, silu
from undiffuse.networks.embeddings import EmbeddingMLP, TableEmbedding, TimeEmbedding

VECTORS = {"mlp": EmbeddingMLP, "table": TableEmbedding}


class Stage(nn.Module):
    """A residual block, and a spatial transformer behind it where the level has one."""

    def __init__(self, residual: ResidualBlock, transformer: SpatialTransformer | None) -> None:
        super().__init__()
        self.residual = residual
        self.transformer = transformer

    def forward(self, x: Tensor, embedding: Tensor, cond: Conditioning) -> Tensor:
        x = self.residual(x, embedding)
        return x if self.transformer is None else self.transformer(x, cond.tokens, cond.token_mask)


class Level(nn.Module):
    """The stages of one resolution, and what leads on to the next one, if there is a next."""

    def __init__(self, stages: Sequence[Stage], resample: nn.Module | None) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.resample = resample


class UNet(nn.Module):
    """Predicts noise, velocity or the clean latent from a noised one.

    Args:
        in_channels: channels of the latent.
        out_channels: channels of the prediction.
        widths: channels level by level, from the highest resolution down; each level halves it.
        blocks: stages a level on the way down; one more on the way up.
        depths: transformer blocks in every stage of a level; 0 for none.
        mid_depth: the same in the middle; the last positive depth when left out.
        heads: attention heads at every level, or
        head_width: channels a head at every level.
        context_width: features of a context token; None for no cross-attention.
        vector_width: features of the conditioning vector; None for none.
        vector_embedding: an MLP for the vector, or a table with a row for each of its features.
        spatial_channels: channels of the conditioning map that is concatenated to the latent.
        linear_projection: transformers project tokens (SD 2.x, XL) instead of maps.
        cross_only: levels whose transformers attend to the context alone, never to themselves.
        dropout: between the convolutions of residual blocks.

    Raises:
        SpecError: when widths and depths differ in length, heads do not divide a width, or a level attends to no context.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        widths: Sequence[int],
        blocks: int = 2,
        depths: Sequence[int],
        mid_depth: int | None = None,
        heads: int | None = None,
        head_width: int | None = None,
        context_width: int | None = None,
        vector_width: int | None = None,
        vector_embedding: str = "mlp",
        spatial_channels: int = 0,
        linear_projection: bool = False,
        cross_only: Sequence[int] = (),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if len(widths) != len(depths):
            raise SpecError(explain(f"{len(widths)} widths and {len(depths)} depths", "each level needs one of both"))
        if cross_only and context_width is None:
            raise SpecError(explain("cross_only without a context", "there is nothing else to attend to", "leave it out"))
        self.factor = 2 ** (len(widths) - 1)
        self.spatial_channels = spatial_channels
        embedded = 4 * widths[0]
        if mid_depth is None:
            mid_depth = next((depth for depth in reversed(depths) if depth), 0)
        self.reads_tokens = context_width is not None and (any(depths) or mid_depth > 0)

        def transformer(width: int, depth: int, crosses: bool) -> SpatialTransformer | None:
            if depth == 0:
                return None
            count = count_heads(width, heads, head_width)
            return SpatialTransformer(width, count, depth, context_width, linear_projection, crosses)

        def stage(width_in: int, width_out: int, depth: int, level: int | None = None) -> Stage:
            residual = ResidualBlock(width_in, width_out, embedding_width=embedded, dropout=dropout)
            return Stage(residual, transformer(width_out, depth, level in cross_only))

        self.embed_time = TimeEmbedding(widths[0], embedded)
        self.embed_vector = VECTORS[vector_embedding](vector_width, embedded) if vector_width else None
        self.first = nn.Conv2d(in_channels + spatial_channels, widths[0], 3, padding=1)

        self.down = nn.ModuleList()
        width, skips = widths[0], [widths[0]]
        for level, (out, depth) in enumerate(zip(widths, depths, strict=True)):
            stages = []
            for _ in range(blocks):
                stages.append(stage(width, out, depth, level))
                width = out
                skips.append(width)
            lower = level < len(widths) - 1
            if lower:
                skips.append(width)
            self.down.append(Level(stages, nn.Conv2d(width, width, 3, stride=2, padding=1) if lower else None))

        self.middle = nn.ModuleList([stage(width, width, mid_depth), stage(width, width, 0)])

        self.up = nn.ModuleList()
        for level, (out, depth) in reversed(list(enumerate(zip(widths, depths, strict=True)))):
            stages = []
            for _ in range(blocks + 1):
                stages.append(stage(width + skips.pop(), out, depth, level))
                width = out
            self.up.append(Level(stages, Upsample(width) if level else None))

        self.norm = group_norm(width, eps=1e-5)
        self.last = nn.Conv2d(width, out_channels, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        """The prediction (B, out, H, W) for x (B, C, H, W) at time t (B,), steered by `cond`.

        Raises:
            SpecError: when H or W cannot be halved often enough, or a slot that the net needs is empty.
        """
        self._check(x, cond)
        embedding = self.embed_time(t)  # (B, 4 W0)
        if self.embed_vector is not None:
            embedding = embedding + self.embed_vector(cond.vector)  # (B, 4 W0)
        if self.spatial_channels:
            x = torch.cat([x, cond.spatial], dim=1)  # type: ignore[list-item]  # (B, C + S, H, W)
        x = self.first(x)  # (B, W0, H, W)
        skips = [x]
        for level in self.down:
            for stage in level.stages:  # type: ignore[union-attr]
                x = stage(x, embedding, cond)
                skips.append(x)
            if level.resample is not None:
                x = level.resample(x)  # type: ignore[operator]  # (B, Wi, H/2, W/2)
                skips.append(x)
        for stage in self.middle:
            x = stage(x, embedding, cond)  # (B, Wn, h, w)
        for level in self.up:
            for stage in level.stages:  # type: ignore[union-attr]
                x = stage(torch.cat([x, skips.pop()], dim=1), embedding, cond)
            if level.resample is not None:
                x = level.resample(x)  # type: ignore[operator]  # (B, Wi, 2H, 2W)
        return self.last(silu(self.norm(x)))  # (B, out, H, W)

    def _check(self, x: Tensor, cond: Conditioning) -> None:
        height, width = x.shape[-2:]
        if height % self.factor or width % self.factor:
            raise SpecError(explain(f"a latent of {width}x{height}", f"both sides must be multiples of {self.factor}"))
        if self.embed_vector is not None and cond.vector is None:
            raise SpecError(explain("no conditioning vector", "this net needs one", "use the model's own conditioner"))
        if self.reads_tokens and cond.tokens is None:
            raise SpecError(explain("no conditioning tokens", "this net needs them", "use the model's own conditioner"))
        if self.spatial_channels and cond.spatial is None:
            raise SpecError(explain("no conditioning map", f"this net needs one of {self.spatial_channels} channels"))


def count_heads(width: int, heads: int | None, head_width: int | None) -> int:
    """Attention heads for this many channels.

    Raises:
        SpecError: when not exactly one of both is given, or it does not divide the width.
    """
    if (heads is None) == (head_width is None):
        raise SpecError(explain(f"heads = {heads}, head_width = {head_width}", "exactly one of the two must be set"))
    part = heads or head_width or 1
    if width % part:
        raise SpecError(explain(f"{part} does not divide the {width} channels of a level", "heads must divide every width"))
    return heads or width // part
