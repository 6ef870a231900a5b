"""`Arrangement`: two things that a caption names, told apart, and where they stand."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from undiffuse.data.records import BESIDE, STACKED
from undiffuse.networks.attention import Attention
from undiffuse.networks.embeddings import sinusoid

WIDTH, HEADS = 128, 4
WAYS = (BESIDE, STACKED)


class Arrangement(nn.Module):
    """Which words tell the first thing and which the second, whether they stand beside or above each other, and a map of both.

    Whether a word belongs to the one or to the other follows from the words between and from its place, so tokens look at
    each other once before they are weighed.

    Args:
        context_width: features of a token state.
        pools: ways of weighing the tokens for each thing.
        width: features of a caption.
        channels: of the map of a thing, the last its cover.
        side: height and width of that map.
    """

    def __init__(self, context_width: int, pools: int, width: int, channels: int, side: int) -> None:
        super().__init__()
        self.side = side
        self.into = nn.Linear(context_width, WIDTH)
        self.norm = nn.LayerNorm(WIDTH)
        self.look = Attention(WIDTH, WIDTH, HEADS)
        self.norm_out = nn.LayerNorm(WIDTH)
        self.weigh = nn.Linear(WIDTH, 2 * pools)
        self.way = nn.Linear(width, len(WAYS))
        self.shrink = nn.Conv2d(channels, channels, 2, stride=2, bias=False)
        with torch.no_grad():  # the mean of four patches, to begin with
            self.shrink.weight.copy_(torch.eye(channels)[:, :, None, None].expand(-1, -1, 2, 2) / 4)

    def tell_apart(self, states: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, N, pools) of the tokens (B, N, D) for the first thing, and those for the second."""
        places = sinusoid(torch.arange(states.shape[1], device=states.device), WIDTH)  # (N, WIDTH)
        x = self.into(states) + places.to(states.dtype)
        h = self.norm(x)
        x = x + self.look(h, h, mask)
        first, second = self.weigh(F.gelu(self.norm_out(x))).chunk(2, dim=-1)
        return first, second

    def forward(self, first: Tensor, second: Tensor, ways: Tensor) -> Tensor:
        """Both things, (B, C, side, side) each, at half their size: in the two halves, as far as each way has a share (B, 2).

        What either covers comes along as the last channel; elsewhere nothing is, and nothing is covered.
        """
        one, other = self.shrink(first), self.shrink(second)  # (B, C, side / 2, side / 2)
        size = one.shape[-1]
        ends = (slice(0, size), slice(self.side - size, self.side))
        middle = slice((self.side - size) // 2, (self.side - size) // 2 + size)
        beside, stacked = torch.zeros_like(first), torch.zeros_like(first)
        for thing, end in zip((one, other), ends, strict=True):
            beside[..., middle, end] = thing
            stacked[..., end, middle] = thing
        return ways[:, 0, None, None, None] * beside + ways[:, 1, None, None, None] * stacked
