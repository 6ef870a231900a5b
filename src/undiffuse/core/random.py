"""Random streams that are functions of where they are used, never of what was drawn before.

A stream is named by a path of integers and words, for instance `("train", seed, step, slot)` or
`("draw", seed, picture, step)`. Equal paths give equal numbers on every machine, in every batch,
in every order. Numbers are drawn on the CPU and moved; nothing reads a global generator.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch

Part = int | str
START = -1
"""The step whose noise a picture starts from."""


def stream_seed(*path: Part) -> int:
    """A 63-bit seed from a path, by BLAKE2b of the parts with their types and lengths."""
    digest = hashlib.blake2b(digest_size=8)
    for part in path:
        data = str(part).encode()
        digest.update(f"{type(part).__name__}:{len(data)}:".encode())
        digest.update(data)
    return int.from_bytes(digest.digest(), "big") >> 1


def torch_stream(*path: Part, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator, of the CPU unless a device is named, that stands at the start of the stream of this path."""
    generator = torch.Generator(device)
    generator.manual_seed(stream_seed(*path))
    return generator


def numpy_stream(*path: Part) -> np.random.Generator:
    """The NumPy twin of `torch_stream`, for work on pictures and captions."""
    return np.random.Generator(np.random.PCG64(stream_seed(*path)))


def normal(shape: Sequence[int], *path: Part, device: torch.device | str = "cpu") -> torch.Tensor:
    """Standard normal float32 numbers of this shape from the stream of this path; another kind of device has other numbers."""
    return torch.randn(tuple(shape), generator=torch_stream(*path, device=device), device=device)


def uniform(shape: Sequence[int], *path: Part) -> torch.Tensor:
    """Uniform float32 numbers in [0, 1) of this shape from the stream of this path."""
    return torch.rand(tuple(shape), generator=torch_stream(*path))


class BatchNoise:
    """Random numbers for some slots of a batch, drawn for all of it, so that it does not matter who computes a slot.

    Large tensors are drawn where they are needed: a GPU has numbers of its own, the same at every run.
    """

    def __init__(self, device: torch.device, batch: int, slots: range, *path: Part) -> None:
        self.device = device
        self.batch = batch
        self.slots = slice(slots.start, slots.stop)
        self.path = path

    def normal(self, name: str, shape: Sequence[int]) -> torch.Tensor:
        """Standard normal numbers (B, *shape) under this name."""
        return normal((self.batch, *shape), *self.path, name, device=self.device)[self.slots]

    def uniform(self, name: str) -> torch.Tensor:
        """Numbers (B,) in [0, 1) under this name."""
        return uniform((self.batch,), *self.path, name)[self.slots].to(self.device)


class PictureNoise:
    """Noise for a batch of pictures, one stream a picture.

    Picture `i` of the request with this seed gets the same numbers alone, in a batch of eight, or at
    position five: its path is `("draw", seed, pictures[i], step)`. Step `START` is what it starts from.
    """

    def __init__(self, seed: int, pictures: Sequence[int], shape: Sequence[int]) -> None:
        self.seed = seed
        self.pictures = tuple(pictures)
        self.shape = tuple(shape)

    def __call__(self, step: int) -> torch.Tensor:
        """Noise (B, *shape) for this solver step."""
        return torch.stack([normal(self.shape, "draw", self.seed, p, step) for p in self.pictures])
