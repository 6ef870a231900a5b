"""The records that pass between the parts of this room: a row, a training example, a problem."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from torch import Tensor

BESIDE: Final = "left-right"
"""The layout of two things of which the first is on the left."""

STACKED: Final = "above-below"
"""The layout of two things of which the first is above the second."""

Progress = Callable[[int, int, str], None]
"""Called with (how many are done, how many there are, what is being done)."""


@dataclass(frozen=True)
class Row:
    """One picture of a data set, without its pixels.

    `key` is unique in the set; `caption` is "" when the set has none; `split` is "train" or "val"; `fields`
    holds everything else that the set says (for instance concept, style, keywords, group, licence).
    """

    key: str
    caption: str
    label: str | None = None
    split: str = "train"
    fields: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Example:
    """One rendered picture: `pixels` (3, H, W) float32 in [-1, 1], with what is said about it."""

    pixels: Tensor
    caption: str
    label: str | None = None
    fields: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Problem:
    """Something in a data set that cannot be used, or not as it stands: which file, and why."""

    name: str
    reason: str
