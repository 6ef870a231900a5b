"""Added terms against the formulas of their papers, written out with loops over single numbers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from undiffuse.core.random import normal
from undiffuse.networks.lora import Decomposed, Hadamard, Kronecker, Layer, LowRank, Term, Whole

R = 2  # rank of every term


def numbers(*shape: int, name: str) -> Tensor:
    return normal(shape, "lora", name).double()


def linear() -> nn.Linear:
    return nn.Linear(6, 4).double()


def pointwise() -> nn.Conv2d:
    return nn.Conv2d(6, 4, 1).double()


def kernel() -> nn.Conv2d:
    return nn.Conv2d(6, 4, 3, stride=2, padding=1).double()


def low_rank(k: int = 0) -> LowRank:
    tail, one = (k, k) if k else (), (1, 1) if k else ()
    return LowRank(numbers(R, 6, *tail, name="down"), numbers(4, R, *one, name="up"), alpha=3.0)


def cored_low_rank() -> LowRank:
    return LowRank(numbers(R, 6, 1, 1, name="down"), numbers(4, R, 1, 1, name="up"), 3.0, numbers(R, R, 3, 3, name="mid"))


def hadamard(inner: int) -> Hadamard:
    a1, b1, a2, b2 = (
        numbers(*shape, name=name) for name, shape in zip("abcd", [(4, R), (R, inner), (4, R), (R, inner)], strict=True)
    )
    return Hadamard(a1, b1, a2, b2, 1.0)


def cored_hadamard() -> Hadamard:
    a1, b1, a2, b2 = (numbers(*shape, name=name) for name, shape in zip("abcd", [(R, 4), (R, 6)] * 2, strict=True))
    return Hadamard(a1, b1, a2, b2, 1.0, numbers(R, R, 3, 3, name="e"), numbers(R, R, 3, 3, name="f"))


def kronecker(first: bool, second: bool, k: int = 0) -> Kronecker:
    """(2, 3) x (2, 2, k, k), each whole or a product."""
    tail = (k, k) if k else ()
    return Kronecker(
        first=numbers(2, 3, name="first") if first else None,
        second=numbers(2, 2, *tail, name="second") if second else None,
        a1=None if first else numbers(2, R, name="a1"),
        b1=None if first else numbers(R, 3, name="b1"),
        a2=None if second else numbers(2, R, name="a2"),
        b2=None if second else numbers(R, 2 * max(k, 1) ** 2, name="b2"),
        alpha=5.0,
    )


def cored_kronecker() -> Kronecker:
    parts = {"a2": numbers(R, 2, name="a2"), "b2": numbers(R, 2, name="b2"), "mid": numbers(R, R, 3, 3, name="mid")}
    return Kronecker(first=numbers(2, 3, name="first"), alpha=5.0, **parts)


def whole() -> Whole:
    return Whole(numbers(4, 6, name="whole"))


CASES: dict[str, tuple[Callable[[], Layer], Callable[[], Term]]] = {
    "LoRA": (linear, low_rank),
    "LoRA 1x1": (pointwise, lambda: low_rank(1)),
    "LoRA 3x3": (kernel, lambda: low_rank(3)),
    "LoRA with a core": (kernel, cored_low_rank),
    "LoRA of matrices beside a 1x1 kernel": (pointwise, low_rank),
    "LoRA of 1x1 kernels beside a matrix": (linear, lambda: low_rank(1)),
    "LoHa": (linear, lambda: hadamard(6)),
    "LoHa 3x3": (kernel, lambda: hadamard(54)),
    "LoHa with cores": (kernel, cored_hadamard),
    "LoKr whole": (linear, lambda: kronecker(True, True)),
    "LoKr second in two": (linear, lambda: kronecker(True, False)),
    "LoKr first in two": (linear, lambda: kronecker(False, True)),
    "LoKr both in two": (linear, lambda: kronecker(False, False)),
    "LoKr 1x1": (pointwise, lambda: kronecker(True, True)),
    "LoKr 3x3 whole": (kernel, lambda: kronecker(True, True, 3)),
    "LoKr 3x3 in two": (kernel, lambda: kronecker(True, False, 3)),
    "LoKr with a core": (kernel, cored_kronecker),
    "whole": (linear, whole),
    "DoRA": (linear, lambda: Decomposed(low_rank(), numbers(4, 1, name="magnitude"))),
    "DoRA of columns": (linear, lambda: Decomposed(low_rank(), numbers(1, 6, name="magnitude"))),
    "DoRA 3x3": (kernel, lambda: Decomposed(low_rank(3), numbers(4, 1, 1, 1, name="magnitude"))),
}


@pytest.mark.parametrize("case", CASES)
def test_what_a_term_adds_is_what_its_change_of_the_weight_adds(case: str) -> None:
    layer, term = (make() for make in CASES[case])
    x = numbers(2, 6, 5, 7, name="x") if isinstance(layer, nn.Conv2d) else numbers(2, 5, 6, name="x")
    with torch.no_grad():
        before, added = layer(x), term.added(x, layer)
        layer.weight.add_(term.change(layer.weight))
        assert torch.allclose(before + added, layer(x), rtol=1e-10, atol=1e-10)


def at(tensor: Tensor | None, *index: int) -> float:
    assert tensor is not None
    return float(tensor[index])


def entry(term: Term, o: int, i: int, y: int, x: int) -> float:
    """One number of the change, by the book."""
    if isinstance(term, LowRank):
        scale = 3.0 / R
        if term.mid is None:
            down = term.down if term.down.ndim == 4 else term.down[..., None, None]
            return scale * sum(at(term.up.flatten(1), o, r) * at(down, r, i, y, x) for r in range(R))
        pairs = itertools.product(range(R), repeat=2)
        up, down, mid = term.up.flatten(1), term.down.flatten(1), term.mid
        return scale * sum(at(up, o, r) * at(mid, r, s, y, x) * at(down, s, i) for r, s in pairs)
    if isinstance(term, Hadamard):
        values = []
        for a, b, mid in ((term.a1, term.b1, term.mid1), (term.a2, term.b2, term.mid2)):
            if mid is not None:
                pairs = itertools.product(range(R), repeat=2)
                values.append(sum(at(mid, r, s, y, x) * at(a, r, o) * at(b, s, i) for r, s in pairs))
            else:
                k = math.isqrt(b.shape[1] // 6)
                values.append(sum(at(a, o, r) * at(b, r, (i * k + y) * k + x) for r in range(R)))
        return 1.0 / R * values[0] * values[1]
    if not isinstance(term, Kronecker):
        raise TypeError(term)
    scale = 1.0 if term.b1 is None and term.b2 is None else 5.0 / R
    o1, o2, i1, i2 = o // 2, o % 2, i // 2, i % 2
    if term.a1 is None or term.b1 is None:
        first = at(term.first, o1, i1)
    else:
        first = sum(at(term.a1, o1, r) * at(term.b1, r, i1) for r in range(R))
    if term.second is not None:
        second = at(term.second if term.second.ndim == 4 else term.second[..., None, None], o2, i2, y, x)
    elif term.mid is not None:
        pairs = itertools.product(range(R), repeat=2)
        second = sum(at(term.mid, r, s, y, x) * at(term.a2, r, o2) * at(term.b2, s, i2) for r, s in pairs)
    else:
        k = math.isqrt(len(term.b2[0]) // 2)  # type: ignore[index]
        second = sum(at(term.a2, o2, r) * at(term.b2, r, (i2 * k + y) * k + x) for r in range(R))
    return scale * first * second


@pytest.mark.parametrize("case", [name for name in CASES if name.startswith("Lo")])
def test_every_number_of_a_change_is_that_of_the_paper(case: str) -> None:
    layer, term = (make() for make in CASES[case])
    change = term.change(layer.weight)
    assert change.shape == layer.weight.shape
    kernel = change if change.ndim == 4 else change[..., None, None]
    for index in itertools.product(*(range(size) for size in kernel.shape)):
        assert float(kernel[index]) == pytest.approx(entry(term, *index), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("case", ["DoRA", "DoRA of columns", "DoRA 3x3"])
def test_dora_sets_the_length_and_keeps_the_direction_of_the_changed_weight(case: str) -> None:
    layer, term = (make() for make in CASES[case])
    assert isinstance(term, Decomposed)
    with torch.no_grad():
        plain = layer.weight + term.inner.change(layer.weight)
        result = layer.weight + term.change(layer.weight)
    rows = (lambda w: w.transpose(0, 1).flatten(1)) if case == "DoRA of columns" else (lambda w: w.flatten(1))
    assert torch.allclose(rows(result).norm(dim=1), term.magnitude.flatten().abs())
    cosine = torch.cosine_similarity(rows(result), rows(plain), dim=1)
    assert torch.allclose(cosine, term.magnitude.flatten().sign())


def test_alpha_is_the_rank_when_it_is_not_told() -> None:
    layer = linear()
    down, up = numbers(R, 6, name="down"), numbers(4, R, name="up")
    assert torch.equal(LowRank(down, up).change(layer.weight), LowRank(down, up, float(R)).change(layer.weight))


@pytest.mark.parametrize("case", CASES)
def test_gradients_of_a_term(case: str) -> None:
    layer, term = (make() for make in CASES[case])
    layer.requires_grad_(False)
    x = numbers(1, 6, 3, 3, name="x") if isinstance(layer, nn.Conv2d) else numbers(2, 6, name="x")
    inner = term.inner if isinstance(term, Decomposed) else term
    parts = {name: part for name, part in inner.parts().items() if part is not None}
    values = [x, *parts.values(), *([term.magnitude] if isinstance(term, Decomposed) else [])]

    def run(x: Tensor, *given: Tensor) -> Tensor:
        told = {name: getattr(inner, name) for name in inner.__dataclass_fields__}
        made = type(inner)(**{**told, **dict(zip(parts, given, strict=False))})
        return (Decomposed(made, given[-1]) if isinstance(term, Decomposed) else made).added(x, layer)

    assert torch.autograd.gradcheck(run, tuple(value.clone().requires_grad_() for value in values))
