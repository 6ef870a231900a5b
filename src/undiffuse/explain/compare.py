"""`compare`: at which step, in what, where and by how much two recorded drawings part, and why."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from undiffuse.core.pictures import to_pixels
from undiffuse.evaluation.reconstruction import psnr
from undiffuse.explain.causes import CONDITIONAL, LEVEL, PICTURE, UNCONDITIONAL, X0, Cause, X, causes
from undiffuse.explain.trace import Trace, rms

VISIBLE = 0.01  # a relative difference that counts as more than rounding
MOST = 0.5  # of the squared difference lies in the region that is told
WIDE = 0.6  # of the latent: a region larger than that is everywhere


@dataclass(frozen=True)
class Region:
    """The least box around the positions that differ most: left, top, right, bottom as shares of the sides."""

    box: tuple[float, float, float, float]

    def __str__(self) -> str:
        left, top, right, bottom = self.box
        if (right - left) * (bottom - top) > WIDE:
            return "everywhere"
        rows, columns = ("top", "middle", "bottom"), ("left", "centre", "right")
        row, column = (min(2, int((low + high) / 2 * 3)) for low, high in ((top, bottom), (left, right)))
        place = "centre" if (row, column) == (1, 1) else f"{rows[row]} {columns[column]}"
        return f"{place} (x {left:.0%} to {right:.0%}, y {top:.0%} to {bottom:.0%})"


@dataclass(frozen=True)
class Parting:
    """Where two drawings first differ: the step from 0, the quantity, by how much of its size, and where in it.

    `layer` is the first cross-attention that looked elsewhere at that step, if attention was kept.
    """

    step: int
    quantity: str
    by: float
    region: Region | None = None
    layer: str | None = None


@dataclass(frozen=True)
class Comparison:
    """Two drawings side by side.

    `rows` hold (x, x0) for every step that both have: the difference by the size of the first. `visible` is the first
    step at which the estimate differs by more than rounding. `psnr` in dB; None where pictures differ in size.
    """

    parting: Parting | None
    cause: Cause | None
    causes: list[Cause]
    rows: list[tuple[float, float]] = field(repr=False)
    visible: int | None = None
    furthest: int | None = 0
    psnr: float | None = None

    @property
    def same(self) -> bool:
        """Whether both gave the same pixels."""
        return self.furthest == 0

    def told(self) -> dict[str, Any]:
        """All of it as JSON holds it; the region in words, too."""
        told: dict[str, Any] = {**asdict(self), "same": self.same}
        if self.parting is not None and self.parting.region is not None:
            told["parting"]["region"]["words"] = str(self.parting.region)
        return told


def compare(a: Trace, b: Trace) -> Comparison:
    """Two traces, the first as the measure."""
    found = causes(a.told, b.told)
    parting = next(_partings(a, b), None)
    cause = None
    if parting is not None:
        cause = next((one for one in found if one.can_act_on(parting.quantity)), None)
    rows: list[tuple[float, float]] = []
    if a.tensors[X].shape[1:] == b.tensors[X].shape[1:]:
        apart = [[relative(before, now) for before, now in zip(a.tensors[n], b.tensors[n], strict=False)] for n in (X, X0)]
        rows = list(zip(*apart, strict=True))
    visible = next((step for step, (_, x0) in enumerate(rows) if x0 >= VISIBLE), None)
    by, decibels = _apart(a, b)
    return Comparison(parting, cause, found, rows, visible, by, decibels)


def relative(a: Tensor, b: Tensor) -> float:
    """The difference of two tensors by the size of the first."""
    return rms(a - b) / max(rms(a), 1e-30)


def region_of(difference: Tensor) -> Region:
    """Where most of a difference (C, h, w) lies."""
    energy = difference.double().square().sum(0)  # (h, w)
    ranked = energy.flatten().sort(descending=True)
    count = int((ranked.values.cumsum(0) < MOST * energy.sum()).sum()) + 1
    chosen = torch.zeros_like(energy).flatten()
    chosen[ranked.indices[:count]] = 1
    rows, columns = chosen.view(energy.shape).nonzero(as_tuple=True)
    height, width = energy.shape
    ends = (int(columns.max()) + 1) / width, (int(rows.max()) + 1) / height
    return Region((int(columns.min()) / width, int(rows.min()) / height, *ends))


def _partings(a: Trace, b: Trace) -> Iterator[Parting]:
    """Everything that differs, in the order in which it came about."""
    if a.tensors["x"].shape[1:] != b.tensors["x"].shape[1:]:
        yield Parting(0, X, 1.0)
        return
    for step in range(min(len(a), len(b))):
        levels = a.tensors["levels"][step], b.tensors["levels"][step]
        if not torch.equal(*levels):
            yield Parting(step, LEVEL, relative(levels[0], levels[1]))
        for quantity in (X, UNCONDITIONAL, CONDITIONAL, X0):
            if quantity not in a.tensors or quantity not in b.tensors:
                continue  # without guidance there is no unconditional estimate
            before, now = (trace.tensors[quantity][step] for trace in (a, b))
            if before.isnan().any() or now.isnan().any() or torch.equal(before, now):
                continue
            layer = _first_layer(a, b, step) if quantity in (UNCONDITIONAL, CONDITIONAL) else None
            yield Parting(step, quantity, relative(before, now), region_of(before - now), layer)
    if len(a) != len(b):
        yield Parting(min(len(a), len(b)), LEVEL, 1.0)
    elif not torch.equal(a.tensors["picture"], b.tensors["picture"]):
        yield Parting(len(a), PICTURE, 1.0)


def _first_layer(a: Trace, b: Trace, step: int) -> str | None:
    """The first layer, in the order of the net, whose positions looked at the words in other shares."""
    ours, theirs = a.layers, b.layers
    for path, maps in ours.items():
        other = theirs.get(path)
        if other is not None and (maps.shape[1:] != other.shape[1:] or not torch.equal(maps[step], other[step])):
            return path
    return None


def _apart(a: Trace, b: Trace) -> tuple[int | None, float | None]:
    """The furthest that any pixel is from the other's, of 255, and the PSNR in dB; None where sizes differ."""
    first, second = a.tensors["picture"], b.tensors["picture"]
    if first.shape != second.shape:
        return None, None
    by = int((first.int() - second.int()).abs().max())
    return by, None if by == 0 else decibels_of(to_pixels(a.picture), to_pixels(b.picture))


def decibels_of(a: Tensor, b: Tensor) -> float:
    """PSNR of two pictures (3, H, W) in [-1, 1]."""
    return float(psnr(a[None], b[None]))
