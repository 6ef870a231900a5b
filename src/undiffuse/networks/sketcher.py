"""`Sketcher`: what a caption makes one expect, as one small map: the mean of all pictures that it could be said of."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Sketcher(nn.Module):
    """Token states to a map by a few pools of attention, a residual MLP and a basis of whole maps.

    Trained by squared error it gives the conditional mean E[z | y], which is also all that a denoiser can know of a
    picture at the highest noise. It has no position of its own for every patch of the map, so a caption costs it as many
    products as it has weights, and it sees thousands of them in the time in which a U-Net sees one.

    Args:
        context_width: features of a token state.
        channels: of the map.
        side: height and width of the map.
        pools: ways of weighing the tokens, beside their mean.
        width: features of the MLP.
        depth: its residual blocks.
        rank: maps of which every sketch is a sum.
    """

    def __init__(
        self, context_width: int, channels: int, side: int, pools: int = 3, width: int = 512, depth: int = 2, rank: int = 256
    ) -> None:
        super().__init__()
        self.channels = channels
        self.side = side
        self.weigh = nn.Linear(context_width, pools)
        self.into = nn.Linear((pools + 1) * context_width, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)
        self.mix = nn.Linear(width, rank)
        self.basis = nn.Linear(rank, channels * side**2)

    def start_linear(self, mean: Tensor, components: Tensor, deviations: Tensor) -> None:
        """Begin with sums of `components` (rank, C, side, side) by their `deviations` (rank,), about `mean` (C, side, side)."""
        with torch.no_grad():
            self.basis.weight.copy_((components * deviations[:, None, None, None]).flatten(1).T)
            self.basis.bias.copy_(mean.flatten())

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """The map (B, C, side, side) of token states (B, N, D), of which those count where `mask` (B, N) is true."""
        logits = self.weigh(states).masked_fill(~mask[..., None], float("-inf"))  # (B, N, pools)
        mean = mask.to(states.dtype) / mask.sum(1, keepdim=True)  # (B, N)
        weights = torch.cat([torch.softmax(logits, dim=1), mean[..., None].to(logits.dtype)], dim=2)  # (B, N, pools + 1)
        x = self.into((weights.transpose(1, 2) @ states.to(weights.dtype)).flatten(1))  # (B, W)
        for block in self.blocks:
            x = x + block(x)
        return self.basis(self.mix(self.norm(x))).unflatten(1, (self.channels, self.side, self.side))


def resized(sketch: Tensor, size: tuple[int, int]) -> Tensor:
    """A sketch (B, C, h, w) at the height and width of a latent, stretched where that has another shape."""
    return sketch if tuple(sketch.shape[2:]) == size else F.interpolate(sketch, size, mode="bilinear", antialias=True)
