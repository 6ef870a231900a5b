"""Terms at work in a net: attached, weighed, detached, folded in and taken out."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from undiffuse.core.conditioning import Conditioning
from undiffuse.core.errors import ShapeMismatch, UsageError
from undiffuse.core.random import normal
from undiffuse.networks.added import Added
from undiffuse.networks.lora import LowRank, Term, Whole
from undiffuse.networks.resting import rest
from undiffuse.networks.unet import UNet

X, T = normal((2, 4, 8, 8), "added", "x"), torch.tensor([5.0, 700.0])
COND = Conditioning(tokens=normal((2, 3, 16), "added", "tokens"))


def random_unet() -> UNet:
    net = UNet(in_channels=4, out_channels=4, widths=(32, 32), blocks=1, depths=(0, 1), heads=2, context_width=16)
    with torch.no_grad():
        for name, weight in net.named_parameters():
            weight.add_(normal(weight.shape, "added", name) * 0.1)
    return net.eval().requires_grad_(False)


def terms_of(net: nn.Module, name: str) -> dict[str, Term]:
    """A term of rank 2 for every layer."""
    terms: dict[str, Term] = {}
    for path, layer in net.named_modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            out, inner, *kernel = layer.weight.shape
            down = normal((2, inner, *kernel), "added", name, path, "down") * 0.1
            terms[path] = LowRank(down, normal((out, 2, *(1 for _ in kernel)), "added", name, path, "up") * 0.1, 1.0)
    return terms


def with_changes(net: UNet, *changes: tuple[dict[str, Term], float]) -> UNet:
    """A copy of the net whose weights are changed by hand."""
    changed = copy.deepcopy(net)
    for terms, weight in changes:
        for path, term in terms.items():
            layer = changed.get_submodule(path)
            layer.weight.add_(weight * term.change(layer.weight))  # type: ignore[operator]
    return changed


@torch.no_grad()
def run(net: UNet) -> Tensor:
    kind = next(net.parameters()).dtype
    return net(X.to(kind), T, COND.to(dtype=kind)).float()


def far(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.abs().max())


def test_several_sets_add_up_each_with_its_weight() -> None:
    net = random_unet()
    one, two = terms_of(net, "one"), terms_of(net, "two")
    expected = run(with_changes(net, (one, 0.8), (two, -0.5)))
    assert far(run(net), expected) > 1e-2
    added = Added(net)
    added.attach("one", one, 0.8)
    added.attach("two", two, -0.5)
    assert added.weights == {"one": 0.8, "two": -0.5}
    assert far(run(net), expected) <= 1e-5
    added.merge()
    assert far(run(net), expected) <= 1e-5


def test_attaching_changes_neither_names_nor_weights_and_detaching_leaves_nothing() -> None:
    net = random_unet()
    state, modules, before = copy.deepcopy(net.state_dict()), list(net.named_modules()), run(net)
    added = Added(net)
    added.attach("one", terms_of(net, "one"))
    assert list(net.state_dict()) == list(state)
    assert all(torch.equal(weight, state[name]) for name, weight in net.state_dict().items())
    assert list(net.named_modules()) == modules
    added.detach("one")
    assert added.weights == {}
    assert torch.equal(run(net), before)
    assert not any(module._forward_hooks for module in net.modules())


def test_a_weight_of_zero_is_as_if_nothing_were_there() -> None:
    net = random_unet()
    before = run(net)
    added = Added(net)
    added.attach("one", terms_of(net, "one"), 0.0)
    assert torch.equal(run(net), before)
    added.set_weight("one", 1.0)
    assert far(run(net), before) > 1e-2
    added.set_weight("one", 0.0)
    added.merge()
    assert torch.equal(run(net), before)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16, torch.float16])
def test_weights_come_back_to_the_bit(kind: torch.dtype) -> None:
    net = random_unet().to(kind)
    state = copy.deepcopy(net.state_dict())
    added = Added(net)
    added.attach("one", terms_of(net, "one"), 0.7)
    added.attach("two", terms_of(net, "two"), 1.3)
    added.merge()
    assert not all(torch.equal(weight, state[name]) for name, weight in net.state_dict().items())
    added.merge()
    added.set_weight("one", 0.1)
    added.detach("one")
    added.unmerge()
    assert all(torch.equal(weight, state[name]) for name, weight in net.state_dict().items())


@pytest.mark.parametrize("how", ["attach late", "weigh late", "detach late"])
def test_changes_after_merging_are_as_if_merged_after_the_changes(how: str) -> None:
    net = random_unet()
    one, two = terms_of(net, "one"), terms_of(net, "two")
    expected = with_changes(net, (one, 0.5)).state_dict()
    added = Added(net)
    changes: dict[str, Callable[[], None]] = {
        "attach late": lambda: added.attach("one", one, 0.5),
        "weigh late": lambda: added.set_weight("one", 0.5),
        "detach late": lambda: added.detach("two"),
    }
    if how != "attach late":
        added.attach("one", one, 2.0 if how == "weigh late" else 0.5)
    if how == "detach late":
        added.attach("two", two)
    added.merge()
    changes[how]()
    assert all(torch.allclose(weight, expected[name], atol=1e-6) for name, weight in net.state_dict().items())


@pytest.mark.parametrize(("kind", "limit"), [(torch.bfloat16, 0.1), (torch.float16, 0.02)])
def test_short_precisions_work_attached_and_merged(kind: torch.dtype, limit: float) -> None:
    net = random_unet()
    terms = terms_of(net, "one")
    expected = run(with_changes(net, (terms, 1.0)))
    added = Added(net)
    added.attach("one", terms)
    net.to(kind)  # moved after attaching: the terms follow
    assert far(run(net), expected) <= limit
    added.merge()
    assert far(run(net), expected) <= limit


def test_terms_kept_for_the_next_call_allow_gradients_even_if_made_in_inference_mode() -> None:
    net = random_unet().to(torch.bfloat16)
    added = Added(net)
    added.attach("one", terms_of(net, "one"))
    with torch.inference_mode():
        net(X.bfloat16(), T, COND.to(dtype=torch.bfloat16))
    x = X.bfloat16().requires_grad_()
    net(x, T, COND.to(dtype=torch.bfloat16)).sum().backward()
    assert x.grad is not None


def test_terms_that_fit_no_layer_are_refused_and_nothing_is_attached() -> None:
    net = random_unet()
    terms = terms_of(net, "one")
    added = Added(net)
    with pytest.raises(ShapeMismatch, match=r"1 of [0-9]+ added terms do not fit: nowhere"):
        added.attach("one", {**terms, "nowhere": terms["first"]})
    with pytest.raises(ShapeMismatch, match="first"):
        added.attach("one", {**terms, "first": terms["last"]})
    with pytest.raises(ShapeMismatch, match="last"):
        added.attach("one", {"last": Whole(torch.zeros(32, 4, 3, 3))})  # as many numbers, another shape
    assert added.weights == {}
    assert not any(module._forward_hooks for module in net.modules())


def test_names_are_taken_once_and_must_be_known() -> None:
    net = random_unet()
    added = Added(net)
    added.attach("one", terms_of(net, "one"))
    with pytest.raises(UsageError, match="'one' is attached already"):
        added.attach("one", {})
    with pytest.raises(UsageError, match="'two' is not attached; there is 'one'"):
        added.set_weight("two", 1.0)
    with pytest.raises(UsageError):
        added.detach("two")


class Seen(Term):
    """A change of nothing that remembers the weight beside which it works."""

    def __init__(self) -> None:
        object.__setattr__(self, "weights", [])

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Seen:
        return self

    def change(self, weight: Tensor) -> Tensor:
        return torch.zeros_like(weight)

    def added(self, x: Tensor, layer: nn.Module) -> Tensor:
        self.weights.append(layer.weight.dtype)  # type: ignore[attr-defined]
        return torch.zeros(())


@pytest.mark.parametrize("rests_first", [True, False])
def test_terms_see_the_weights_at_work_not_at_rest(rests_first: bool) -> None:
    net, term = nn.Sequential(nn.Linear(4, 4)).half().requires_grad_(False), Seen()
    order: list[Callable[[], object]] = [
        lambda: rest(net, torch.device("cpu"), torch.float32),
        lambda: Added(net).attach("seen", {"0": term}),
    ]
    for act in order if rests_first else order[::-1]:
        act()

    net(torch.ones(1, 4))

    assert term.weights == [torch.float32]  # type: ignore[attr-defined]
    assert net[0].weight.dtype == torch.float16
