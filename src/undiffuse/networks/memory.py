"""`Memory`: pictures that a caption calls to mind, by attention to what was shown in training."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from undiffuse.core.membrane import continued

SHARPER = 12.0  # than probabilities are the shares of a sketch: the mean of two drawings is no drawing
HEEDED = 100.0  # nats that a picture loses by a mean squared difference of 1 from what is to be seen
PLAINLY = 10.0  # nats that what is to be seen loses as a picture of its own, continued smoothly, for it says nothing more
CONSIDERED = 256  # pictures, the likeliest by words, that are compared with what is to be seen
STAND_INS = 2  # places at last that stand for none of these pictures, where they are compared with what is to be seen
CORNER = 2  # patches on a side of the corners that tell the background


class Seen(NamedTuple):
    """What is to be seen of pictures with holes: maps (B, C, side, side), and where they hold, 1 or 0 (B, 1, side, side)."""

    maps: Tensor
    where: Tensor

    def unlike(self, maps: Tensor) -> Tensor:
        """Mean squared difference (B, K) of K maps (B, K, C, side, side) for each, where something is to be seen."""
        squares = (maps - self.maps[:, None]).square().mean(2) * self.where  # (B, K, side, side)
        return squares.sum((2, 3)) / self.where.sum((2, 3)).clamp_min(1)

    def continued(self) -> Tensor:
        """The maps (B, C, side, side), continued smoothly over what is not to be seen; 0 where nothing is."""
        return torch.stack([continued(one, where[0] > 0) for one, where in zip(self.maps, self.where, strict=True)])


class Memory(nn.Module):
    """Attention from the features of a caption to remembered pictures, each a thing in front of no background.

    The conditional mean of latents is E[z | y] = sum_k p(k | y) z_k over the pictures k that y may be said of. The
    probabilities are learned, by cross-entropy; the pictures need not be: they are kept. Each is kept as the map that it
    paints and how much of every patch it covers, so that it stands before whatever background a caption names. One more
    place stands for captions of nothing remembered. Compare Blattmann et al., arXiv 2204.11824, whose memory is outside.

    Args:
        width: features of a caption.
        remembered: pictures.
        key: numbers by which a picture is found.
        channels: of the map.
        side: height and width of the map.
        traits: numbers kept of a picture, by its leading principal components.
        twice: the first of them, which are kept a second time: what is left of them where the first time is rounded.
    """

    mean: Tensor
    basis: Tensor
    traits: Tensor

    def __init__(self, width: int, remembered: int, key: int, channels: int, side: int, traits: int, twice: int = 0) -> None:
        super().__init__()
        self.shape = (channels + 1, side, side)
        self.twice = twice
        self.ask = nn.Linear(width, key)
        self.keys = nn.Parameter(torch.randn(remembered + 1, key) / key**0.5)
        self.lean = nn.Parameter(torch.zeros(remembered + 1))
        numbers = (channels + 1) * side**2
        self.register_buffer("mean", torch.zeros(numbers))
        self.register_buffer("basis", torch.zeros(traits, numbers))
        self.register_buffer("traits", torch.zeros(remembered, traits + twice))

    def keep(self, things: Tensor, mean: Tensor, components: Tensor) -> None:
        """Remember `things` (M, C + 1, side, side), their paint and their cover, in `components` (R, C + 1, side, side).

        A component has the root of its deviation in the basis and the other one in the traits: in a few bits, with one scale
        for many traits, these lose least if they are neither as unequal as they come nor all alike.
        """
        self.mean.copy_(mean.flatten())
        directions = components.flatten(1)
        traits = (things.flatten(1) - self.mean) @ directions.T
        deviations = traits.std(0, correction=0)
        roots = torch.where(deviations > 0, deviations.sqrt(), 1)  # (R,)
        self.basis.copy_(directions * roots[:, None])
        self.traits.copy_(F.pad(traits / roots, (0, self.twice)))

    def settle(self, rounded: Callable[[Tensor], Tensor]) -> None:
        """Make ready for storage that rounds a tensor as `rounded` does, so that less of what is remembered is lost by it.

        Traits are told anew by the basis as it will be read, and kept twice by what will be lost of them.
        """
        things = self._whole(self.traits) @ self.basis  # (M, (C + 1) * side * side), less the mean
        self.basis.copy_(rounded(self.basis))
        traits = _coordinates(things, self.basis)
        lost = things - rounded(traits) @ self.basis
        self.traits.copy_(torch.cat([traits, _coordinates(lost, self.basis[: self.twice])], dim=1))

    def logits(self, features: Tensor) -> Tensor:
        """How far features (B, W) speak for each remembered picture, and at last for none: (B, M + 1)."""
        return self.ask(features) @ self.keys.T * self.keys.shape[1] ** 0.5 + self.lean

    def shares(self, features: Tensor, sharper: float = 1.0) -> Tensor:
        """The probability that features (B, W) are of each remembered picture, and at last of none: (B, M + 1).

        With `sharper`, in proportion to that power of it.
        """
        return probabilities(sharper * self.logits(features))

    def shares_of_thing(self, features: Tensor, sharper: float = 1.0) -> Tensor:
        """The same of features (B, W) that are of something that is remembered: (B, M)."""
        return probabilities(sharper * self.logits(features)[:, :-1])

    def forward(self, features: Tensor, expected: Tensor, otherwise: Tensor | None = None, seen: Seen | None = None) -> Tensor:
        """What features (B, W) call to mind, before the background of the map `expected` (B, C, side, side).

        As far as nothing is called to mind the result is the map `otherwise`, by default `expected`. With `seen`, pictures
        count as far as they agree with that, too.
        """
        otherwise = expected if otherwise is None else otherwise
        if seen is not None:
            shares, maps = self.agreeing(features, expected, otherwise, seen)
            return (shares[..., None, None, None] * maps).sum(1)
        shares = self.shares(features, SHARPER)
        none = shares[:, -1:, None, None]
        return in_front_of(self._thing(shares[:, :-1] @ self.traits, 1 - none), expected, 1 - none) + none * otherwise

    def agreeing(self, features: Tensor, expected: Tensor, otherwise: Tensor, seen: Seen) -> tuple[Tensor, Tensor]:
        """Shares (B, K + 2) and maps (B, K + 2, C, side, side) of the K likeliest pictures and of two that stand for none.

        These are `otherwise`, and what is to be seen, continued smoothly. By Bayes' rule: the probability by words, times
        that of what is to be seen, whose logarithm falls with the square of the difference.
        """
        logits = self.logits(features)
        likely, places = logits[:, :-1].topk(min(CONSIDERED, len(self.traits)), dim=1)  # (B, K)
        before = expected.repeat_interleave(places.shape[1], dim=0)
        maps = self.picture(places.flatten(), before).unflatten(0, tuple(places.shape))
        maps = torch.cat([maps, torch.stack([otherwise, seen.continued()], dim=1)], dim=1)
        none = logits[:, -1:]
        plain = torch.where(seen.where.flatten(1).any(1, keepdim=True), none - PLAINLY, float("-inf"))
        likely = torch.cat([likely, none, plain], dim=1) - HEEDED * seen.unlike(maps)
        return probabilities(likely), maps

    def thing(self, features: Tensor) -> Tensor:
        """What features (B, W) are of, which is among what is remembered: paint and cover (B, C + 1, side, side)."""
        shares = self.shares_of_thing(features, SHARPER)
        return self._thing(shares @ self.traits, shares.new_ones(len(shares), 1, 1, 1))

    def kept(self, places: Tensor) -> Tensor:
        """The things at `places` (B,), as they are kept: paint and cover (B, C + 1, side, side)."""
        return self._thing(self.traits[places], self.traits.new_ones(len(places), 1, 1, 1))

    def picture(self, places: Tensor, expected: Tensor) -> Tensor:
        """The pictures at `places` (B,) alone, before the background of `expected` (B, C, side, side)."""
        return in_front_of(self.kept(places), expected)

    def _thing(self, traits: Tensor, known: Tensor) -> Tensor:
        """Things of `traits` (B, R), which are sums of shares `known` (B, 1, 1, 1) in all."""
        return (self._whole(traits) @ self.basis).unflatten(1, self.shape) + known * self.mean.view(self.shape)

    def _whole(self, traits: Tensor) -> Tensor:
        """Traits (B, R) of those (B, R + twice) that are kept in part a second time."""
        first, again = traits.split([len(self.basis), self.twice], dim=1)
        return first + F.pad(again, (0, len(self.basis) - self.twice))


def _coordinates(vectors: Tensor, basis: Tensor) -> Tensor:
    """The numbers (M, R) by which sums of the rows of a basis (R, D) are nearest to vectors (M, D)."""
    rows = basis.double()
    return torch.linalg.solve(rows @ rows.T, rows @ vectors.double().T).T.float()


def seen_around(hole: Tensor, around: Tensor, side: int) -> Seen:
    """What is to be seen around holes (B, 1, h, w), 1 where nothing is, of maps (B, C, h, w), on `side` x `side` patches.

    Patches beside a hole do not count: what an encoder tells of them depends on what it was shown in the hole.
    """
    size = (side, side)
    hidden = F.interpolate(F.max_pool2d(hole.float(), 3, stride=1, padding=1), size, mode="area") > 0
    return Seen(F.interpolate(around.float(), size, mode="bilinear", antialias=True), (~hidden).float())


def probabilities(logits: Tensor) -> Tensor:
    """Softmax of logits (B, K), in float32 at least."""
    return torch.softmax(logits, dim=1, dtype=torch.promote_types(logits.dtype, torch.float32))


def in_front_of(things: Tensor, expected: Tensor, known: Tensor | float = 1.0) -> Tensor:
    """Things (B, C + 1, h, w), sums of shares `known` (B, 1, 1, 1) in all, before the background of `expected` (B, C, h, w)."""
    return things[:, :-1] + (known - things[:, -1:]) * background(expected)


def background(maps: Tensor) -> Tensor:
    """The background of maps (B, C, h, w), as their corners tell it: each the mean of a few patches, and blends between."""
    near, far = slice(0, CORNER), slice(-CORNER, None)
    corners = [maps[..., rows, columns].mean((-2, -1)) for rows in (near, far) for columns in (near, far)]
    square = torch.stack(corners, dim=-1).unflatten(-1, (2, 2))
    return F.interpolate(square, tuple(maps.shape[-2:]), mode="bilinear", align_corners=True)


def kept_apart(paint: Tensor, cover: Tensor, ground: Tensor) -> Tensor:
    """What is kept of pictures (M, C + 1, h, w): maps (M, C, h, w) less what shows of the map `ground` (C, h, w), and cover.

    `cover` (M, 1, h, w) is 1 where nothing of the ground shows and 0 where nothing else does.
    """
    return torch.cat([paint - (1 - cover) * ground, cover], dim=1)
