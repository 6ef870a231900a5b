"""The running average against its closed form."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from undiffuse.training.ema import EMA


def net_of(value: float) -> nn.Linear:
    net = nn.Linear(2, 2)
    with torch.no_grad():
        for p in net.parameters():
            p.fill_(value)
    return net


def test_constant_weights_after_a_jump_follow_the_geometric_series() -> None:
    """From w0 to w1 at once: after n updates with decays d_k the average is w1 + (w0 - w1) * prod d_k."""
    net = net_of(2.0)
    ema = EMA(net, decay=0.5)
    with torch.no_grad():
        for p in net.parameters():
            p.fill_(3.0)

    remaining = 1.0
    for n in range(12):
        ema.update()
        remaining *= min(0.5, (1 + n) / (10 + n))

    assert remaining < 0.1
    for average in ema.average.values():
        assert torch.allclose(average, torch.full_like(average, 3.0 - remaining))


def test_the_decay_warms_up() -> None:
    net = net_of(0.0)
    ema = EMA(net, decay=0.9999)
    with torch.no_grad():
        net.weight.fill_(1.0)
    ema.update()

    assert torch.allclose(ema.average["weight"], torch.full((2, 2), 0.9))  # 1 - 1/10


def test_inside_swapped_the_net_holds_the_average_and_afterwards_its_own_bits() -> None:
    net = nn.Linear(3, 3)
    ema = EMA(net, decay=0.5)
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    with torch.no_grad():
        net.weight.add_(torch.randn(3, 3))
    moved = net.weight.detach().clone()

    with pytest.raises(RuntimeError, match="on purpose"), ema.swapped():
        assert all(torch.equal(p, before[name]) for name, p in net.named_parameters())
        raise RuntimeError("on purpose")
    assert torch.equal(net.weight, moved)


def test_state_goes_round() -> None:
    first, second = EMA(net_of(1.0), 0.9), EMA(net_of(5.0), 0.9)
    first.update()
    kept = first.state()
    second.load(kept)

    assert second.updates == 1
    assert all(torch.equal(second.average[name], value) for name, value in first.average.items())
    assert second.average["weight"] is not first.average["weight"]


def test_averages_are_float32_whatever_the_net_is() -> None:
    assert {value.dtype for value in EMA(nn.Linear(2, 2).bfloat16(), 0.9).average.values()} == {torch.float32}
