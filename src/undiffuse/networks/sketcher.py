"""`Sketcher`: what a caption makes one expect, as one small map: the mean of all pictures that it could be said of."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from undiffuse.networks.arrangement import Arrangement
from undiffuse.networks.memory import SHARPER, STAND_INS, Memory, Seen, in_front_of, probabilities


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
        remembered: pictures in its `Memory`; with 0 it has none, and a sketch is that sum alone.
        key: numbers by which each of them is found.
        traits: numbers kept of each.
        twice: as many of them kept a second time, for storage that rounds.
        two: whether it tells two things in a caption apart, by an `Arrangement` of what is remembered.
    """

    def __init__(
        self,
        context_width: int,
        channels: int,
        side: int,
        pools: int = 3,
        width: int = 512,
        depth: int = 2,
        rank: int = 256,
        remembered: int = 0,
        key: int = 128,
        traits: int = 1024,
        two: bool = False,
        twice: int = 0,
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
        self.memory = Memory(width, remembered, key, channels, side, traits, twice) if remembered else None
        self.arrangement = Arrangement(context_width, pools + 1, width, channels + 1, side) if remembered and two else None

    def start_linear(self, mean: Tensor, components: Tensor, deviations: Tensor) -> None:
        """Begin with sums of `components` (rank, C, side, side) by their `deviations` (rank,), about `mean` (C, side, side)."""
        with torch.no_grad():
            self.basis.weight.copy_((components * deviations[:, None, None, None]).flatten(1).T)
            self.basis.bias.copy_(mean.flatten())

    def read(self, states: Tensor, mask: Tensor) -> Tensor:
        """Features (B, W) of token states (B, N, D), of which those count where `mask` (B, N) is true."""
        return self._digest(states, mask, F.pad(self.weigh(states), (0, 1)))  # the last pool weighs all of them alike

    def read_two(self, states: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, W) of the first thing that these words tell, and of the second; with an arrangement only."""
        assert self.arrangement is not None
        first, second = self.arrangement.tell_apart(states, mask)
        return self._digest(states, mask, first), self._digest(states, mask, second)

    def _digest(self, states: Tensor, mask: Tensor, logits: Tensor) -> Tensor:
        """Features (B, W) of what pools with these `logits` (B, N, pools + 1) gather."""
        weights = torch.softmax(logits.masked_fill(~mask[..., None], float("-inf")), dim=1)
        x = self.into((weights.transpose(1, 2) @ states.to(weights.dtype)).flatten(1))  # (B, W)
        for block in self.blocks:
            x = x + block(x)
        return self.norm(x)

    def expect(self, features: Tensor) -> Tensor:
        """The map (B, C, side, side) that features (B, W) make one expect, without the memory."""
        return self.basis(self.mix(features)).unflatten(1, (self.channels, self.side, self.side))

    def forward(self, states: Tensor, mask: Tensor, seen: Seen | None = None) -> Tensor:
        """The sketch (B, C, side, side) of token states (B, N, D), of which those count where `mask` (B, N) is true.

        A memory heeds what is to be `seen` of the pictures, too.
        """
        features = self.read(states, mask)
        expected = self.expect(features)
        if self.memory is None:
            return expected
        return self.memory(features, expected, self._otherwise(states, mask, features, expected), seen)

    def _otherwise(self, states: Tensor, mask: Tensor, features: Tensor, expected: Tensor) -> Tensor:
        """The map (B, C, side, side) of words that call no one picture to mind: of two things, or of what is expected."""
        if self.memory is None or self.arrangement is None:
            return expected
        ways = probabilities(SHARPER * self.arrangement.way(features))
        first, second = (self.memory.thing(some) for some in self.read_two(states, mask))
        return in_front_of(self.arrangement(first, second, ways), expected)

    def things(self, states: Tensor, mask: Tensor, count: int) -> Tensor:
        """The remembered things that one caption (1, N, D) is most likely of: paint and cover (K, C + 1, side, side).

        They are `count` at most, and none without a memory.
        """
        if self.memory is None:
            return states.new_zeros(0, self.channels + 1, self.side, self.side)
        logits = self.memory.logits(self.read(states, mask))[0, :-1]
        return self.memory.kept(logits.topk(min(count, len(logits))).indices)

    def call_to_mind(self, states: Tensor, mask: Tensor, count: int, seen: Seen | None = None) -> tuple[Tensor, Tensor]:
        """The remembered pictures that these words are most likely of, for one caption (1, N, D), the likeliest first.

        Words of two things call a picture to mind as far as either does, by half. What is to be `seen` counts, too.

        Returns:
            probabilities (K,) and maps (K, C, side, side) of K pictures, `count` at most, and none without a memory.
        """
        if self.memory is None:
            return states.new_zeros(0), states.new_zeros(0, self.channels, self.side, self.side)
        features = self.read(states, mask)
        expected = self.expect(features)
        if seen is not None:
            otherwise = self._otherwise(states, mask, features, expected)
            shares, maps = (found[0, :-STAND_INS] for found in self.memory.agreeing(features, expected, otherwise, seen))
            shares, places = shares.sort(descending=True)
            return shares[:count], maps[places[:count]]
        all_shares = self.memory.shares(features)[0]
        shares = all_shares[:-1]
        if self.arrangement is not None:
            two = [self.memory.shares_of_thing(some) for some in self.read_two(states, mask)]
            shares = shares + all_shares[-1] * torch.cat(two).mean(0)
        shares, places = shares.sort(descending=True)
        places = places[:count]
        return shares[:count], self.memory.picture(places, expected.expand(len(places), -1, -1, -1))


def resized(sketch: Tensor, size: tuple[int, int]) -> Tensor:
    """A sketch (B, C, h, w) at the height and width of a latent, stretched where that has another shape."""
    return sketch if tuple(sketch.shape[2:]) == size else F.interpolate(sketch, size, mode="bilinear", antialias=True)
