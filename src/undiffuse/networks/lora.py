"""Terms that are added to the weights of a layer: LoRA, LoHa and LoKr, each possibly decomposed as in DoRA.

A layer computes W x + b; with a term it computes (W + weight * change) x + b. `change` gives the change itself,
`added` what it adds to the output, without forming the change where that is cheaper. Shapes are those of files:
linear weights are (out, in), kernels (out, in, k, k). Terms are records of tensors; `networks/added.py` puts them to work.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Layer = nn.Linear | nn.Conv2d


@dataclass(frozen=True, eq=False)
class Term(ABC):
    """A change of one weight, made of few numbers."""

    @abstractmethod
    def change(self, weight: Tensor) -> Tensor:
        """The change of this weight, in its shape.

        Raises:
            RuntimeError: when the term was made for a weight of another shape.
        """

    def added(self, x: Tensor, layer: Layer) -> Tensor:
        """What the change adds to the layer's output for `x`, which is of the term's own precision."""
        return through(layer, x, self.change(layer.weight))

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Self:
        """The term elsewhere, or in another precision."""
        moved: dict[str, Any] = {}
        for name, value in self.parts().items():
            moved[name] = value.to(device, dtype) if isinstance(value, Term) else value.to(device=device, dtype=dtype)
        return replace(self, **moved)

    def parts(self) -> dict[str, Any]:
        """The tensors that it is made of, and the term inside it if there is one, by name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, Tensor | Term)}


@dataclass(frozen=True, eq=False)
class LowRank(Term):
    """LoRA: alpha / r * up @ down, with `down` (r, in) and `up` (out, r) (Hu et al. 2021).

    For a convolution `down` is (r, in, k, k), or (r, in, 1, 1) with a core `mid` (r, r, k, k) between the two
    (LoCon). Without `alpha` it is r.
    """

    down: Tensor
    up: Tensor
    alpha: float | None = None
    mid: Tensor | None = None

    @property
    def scale(self) -> float:
        """alpha / r."""
        return _scale(self.alpha, len(self.down))

    def change(self, weight: Tensor) -> Tensor:
        """alpha / r * up @ down, with the core between them if there is one."""
        down = self.down
        if self.mid is not None:
            down = torch.einsum("rs...,si->ri...", self.mid, down.flatten(1))  # (r, in, k, k)
        return _shaped(self.up.flatten(1) @ down.flatten(1) * self.scale, weight)

    def added(self, x: Tensor, layer: Layer) -> Tensor:
        """up(mid(down(x))): two or three thin layers."""
        if isinstance(layer, nn.Linear):
            return F.linear(F.linear(x, self.down.flatten(1)), self.up.flatten(1)) * self.scale
        down, up = _kernel(self.down), _kernel(self.up)
        if self.mid is not None:
            return F.conv2d(through(layer, F.conv2d(x, down), self.mid), up) * self.scale
        return F.conv2d(through(layer, x, down), up) * self.scale


@dataclass(frozen=True, eq=False)
class Hadamard(Term):
    """LoHa: alpha / r * (a1 @ b1) * (a2 @ b2), element by element, with `a` (out, r) and `b` (r, in k k).

    With cores `mid1` and `mid2` (r, r, k, k) the factors are `a` (r, out) and `b` (r, in) (Hyeon-Woo et al. 2022,
    prop. 1 and 3). A product of two matrices of rank r has rank r^2: nothing is won by not forming it.
    """

    a1: Tensor
    b1: Tensor
    a2: Tensor
    b2: Tensor
    alpha: float | None = None
    mid1: Tensor | None = None
    mid2: Tensor | None = None

    def change(self, weight: Tensor) -> Tensor:
        """alpha / r times the product of both factors, element by element."""
        first, second = product(self.a1, self.b1, self.mid1), product(self.a2, self.b2, self.mid2)
        return _shaped((first * second).flatten(1) * _scale(self.alpha, len(self.b1)), weight)


@dataclass(frozen=True, eq=False)
class Kronecker(Term):
    """LoKr: alpha / r * (first x second), the Kronecker product of (o1, i1) and (o2, i2) or (o2, i2, k, k).

    Each factor is whole (`first`, `second`) or itself a product of `a` (o, r) and `b` (r, i); with a core `mid`
    (r, r, k, k) `a2` is (r, o2) and `b2` (r, i2). Where both are whole alpha says nothing (LyCORIS, Yeh et al. 2024).
    """

    first: Tensor | None = None
    second: Tensor | None = None
    a1: Tensor | None = None
    b1: Tensor | None = None
    a2: Tensor | None = None
    b2: Tensor | None = None
    alpha: float | None = None
    mid: Tensor | None = None

    @property
    def scale(self) -> float:
        """alpha / r, r being the rank of the second factor, or else of the first."""
        ranked = self.b2 if self.b2 is not None else self.b1
        return 1.0 if ranked is None else _scale(self.alpha, len(ranked))

    def change(self, weight: Tensor) -> Tensor:
        """alpha / r times the Kronecker product of both factors."""
        first, second = self._factors(weight)
        return _shaped(torch.kron(first[..., None, None], second).flatten(1) * self.scale, weight)

    def added(self, x: Tensor, layer: Layer) -> Tensor:
        """The second factor on every block of inputs, then the first across the blocks."""
        first, second = self._factors(layer.weight)
        if isinstance(layer, nn.Linear):
            blocks = F.linear(x.unflatten(-1, (first.shape[1], -1)), second.flatten(1))  # (..., i1, o2)
            return torch.einsum("...io,ai->...ao", blocks, first).flatten(-2) * self.scale
        blocks = through(layer, x.unflatten(1, (first.shape[1], -1)).flatten(0, 1), second)  # (B i1, o2, h, w)
        blocks = blocks.unflatten(0, (-1, first.shape[1]))
        return torch.einsum("biohw,ai->baohw", blocks, first).flatten(1, 2) * self.scale

    def _factors(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """The first factor (o1, i1), and the second (o2, i2, k, k)."""
        first = self.first if self.first is not None else product(self.a1, self.b1)
        second = self.second if self.second is not None else product(self.a2, self.b2, self.mid)
        kernel = weight.shape[2:] or (1, 1)
        return first, second.reshape(len(second), -1, *kernel).contiguous()  # torch.kron takes no other


@dataclass(frozen=True, eq=False)
class Whole(Term):
    """The change itself, in full."""

    difference: Tensor

    def change(self, weight: Tensor) -> Tensor:
        """The difference itself."""
        return _shaped(self.difference.flatten(1), weight)


@dataclass(frozen=True, eq=False)
class Decomposed(Term):
    """DoRA: the weight W + change is brought to the lengths `magnitude` (Liu et al. 2024, eq. 5).

    Lengths are those of rows, with `magnitude` (out, 1, ...), or of columns, with (1, in, ...). A weight between
    0 and 1 goes straight from W to there.
    """

    inner: Term
    magnitude: Tensor

    def change(self, weight: Tensor) -> Tensor:
        """The weight of the right lengths, less the weight."""
        moved = weight + self.inner.change(weight)
        kept = 1 if self.magnitude.shape[0] == 1 < len(weight) else 0
        others = [axis for axis in range(weight.ndim) if axis != kept]
        length = torch.linalg.vector_norm(moved, dim=others, keepdim=True)
        shape = [1] * weight.ndim
        shape[kept] = weight.shape[kept]
        return self.magnitude.reshape(shape) / length * moved - weight

    def added(self, x: Tensor, layer: Layer) -> Tensor:
        """As the change does, computed in float32 at least: lengths are sums of many squares."""
        exact = torch.promote_types(x.dtype, torch.float32)
        return through(layer, x, self.to(dtype=exact).change(layer.weight.to(exact)).to(x.dtype))


def through(layer: Layer, x: Tensor, weight: Tensor) -> Tensor:
    """`x` through the layer with another weight and without its bias."""
    if isinstance(layer, nn.Linear):
        return F.linear(x, weight)
    return F.conv2d(x, weight, None, layer.stride, layer.padding, layer.dilation, layer.groups)


def product(a: Tensor | None, b: Tensor | None, mid: Tensor | None = None) -> Tensor:
    """a @ b (o, i), or with a core (r, r, k, k) between `a` (r, o) and `b` (r, i) the kernel (o, i, k, k).

    Raises:
        RuntimeError: when the shapes do not fit, or one of the two is not there.
    """
    if a is None or b is None:
        raise RuntimeError("one of two factors is missing")
    return a @ b if mid is None else torch.einsum("rs...,ro,si->oi...", mid, a, b)


def _shaped(rows: Tensor, weight: Tensor) -> Tensor:
    """Rows (out, in k k) in the shape of the weight."""
    if rows.shape != weight.flatten(1).shape:
        raise RuntimeError(f"a change of {tuple(rows.shape)} for a weight of {tuple(weight.shape)}")
    return rows.reshape(weight.shape)


def _kernel(factor: Tensor) -> Tensor:
    """A matrix as a 1x1 kernel; kernels as they are."""
    return factor[..., None, None] if factor.ndim == 2 else factor


def _scale(alpha: float | None, rank: int) -> float:
    return 1.0 if alpha is None else alpha / rank
