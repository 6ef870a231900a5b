"""Generators of other programs, as functions of how many tensors they have made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from undiffuse.core.philox import cuda_normal

SEEDS = 2**64


class Stream(Protocol):
    """One generator that makes tensors of one shape, one after the other."""

    def at(self, place: int) -> Tensor:
        """Tensor number `place`, the same whenever it is asked for."""
        ...


class TorchStream:
    """`torch.randn` on the CPU from one seed. Asking backwards begins anew, so that nothing but the latest is held.

    One tensor of another shape may be drawn `before` all others.
    """

    def __init__(self, seed: int, shape: Sequence[int], before: Sequence[int] | None = None) -> None:
        self.seed = seed % SEEDS
        self.shape = tuple(shape)
        self.before = before
        self._begin()

    def at(self, place: int) -> Tensor:
        """Tensor number `place`."""
        if place < self._made - 1:
            self._begin()
        while self._made <= place:
            self._latest = torch.randn(self.shape, generator=self._generator)
            self._made += 1
        return self._latest

    def _begin(self) -> None:
        self._generator = torch.Generator().manual_seed(self.seed)
        if self.before is not None:
            torch.randn(tuple(self.before), generator=self._generator)
        self._latest = torch.empty(0)
        self._made = 0


class CudaStream:
    """`torch.randn` on an NVIDIA GPU from one seed; of a larger tensor only what begins at element `first`."""

    def __init__(self, seed: int, shape: Sequence[int], first: int = 0) -> None:
        self.seed = seed % SEEDS
        self.shape = torch.Size(shape)
        self.first = first

    def at(self, place: int) -> Tensor:
        """Tensor number `place`."""
        return torch.from_numpy(cuda_normal(self.shape.numel(), self.seed, place, self.first)).view(self.shape)


def row_of(stream: Stream, row: int, place: int) -> Tensor:
    """One picture's share (1, ...) of tensor number `place` of a whole batch."""
    return stream.at(place)[row : row + 1]
