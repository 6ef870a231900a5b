"""Which word lit which pixels: attention of a trace, word by word, layers of one resolution together."""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from undiffuse.explain.trace import Trace

PLACES = {"down": "going down", "middle": "in the middle", "up": "going up"}
FULL = 255


@dataclass(frozen=True, eq=False)
class Lighting:
    """Shares of attention (S, W, r, c) of steps to words, under the name of the layers that they are the mean of."""

    name: str
    layers: int
    shares: Tensor

    @property
    def most(self) -> float:
        """The largest share of any word, anywhere."""
        return float(self.shares.max())

    def packed(self, steps: list[int]) -> bytes:
        """These steps as bytes, 255 for the largest share."""
        return (self.shares[steps] / (self.most or 1.0) * FULL).round().to(torch.uint8).numpy().tobytes()


def lightings(trace: Trace) -> list[Lighting]:
    """The mean of all layers first, then that of those of one place and resolution, from the first to the last."""
    if not trace.words or not trace.layers:
        return []
    groups: dict[tuple[str, int, int], list[Tensor]] = {}
    for path, maps in trace.layers.items():
        shares = trace.of_words(maps)
        height, width = shares.shape[2:]
        groups.setdefault((path.partition(".")[0], height, width), []).append(shares)
    found = [
        Lighting(f"{PLACES.get(place, place)}, {height}x{width}", len(some), torch.stack(some).mean(0))
        for (place, height, width), some in groups.items()
    ]
    height, width = max(tuple(one.shares.shape[2:]) for one in found)
    finest = [
        F.interpolate(trace.of_words(maps), (height, width), mode="bilinear", align_corners=False)
        for maps in trace.layers.values()
    ]
    every = Lighting("all layers", len(trace.layers), torch.stack(finest).mean(0))
    return [every, *found] if len(found) > 1 else found


def is_sign(word: str) -> bool:
    """Whether a word is nothing but punctuation."""
    return re.search(r"\w", word) is None
