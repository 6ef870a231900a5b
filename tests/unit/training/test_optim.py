"""The learning-rate curve, the groups of AdamW, clipping."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from undiffuse.training.optim import build_optimizer, clip, learning_rate, set_rate
from undiffuse.training.recipe import OptimizerSpec


def test_warm_up_is_a_straight_line_to_the_peak() -> None:
    spec = OptimizerSpec(rate=2e-3, warmup=10, hold=0.5)

    rates = [learning_rate(spec, step, 100) for step in range(10)]

    assert rates == pytest.approx([2e-4 * (step + 1) for step in range(10)])
    assert [learning_rate(spec, step, 100) for step in (10, 30, 49)] == [2e-3] * 3


@pytest.mark.parametrize(("decay", "half_way"), [("linear", 0.5), ("cosine", 0.5), ("none", 1.0)])
def test_decay_starts_after_the_plateau(decay: str, half_way: float) -> None:
    spec = OptimizerSpec(rate=1.0, warmup=0, hold=0.2, decay=decay)  # type: ignore[arg-type]

    assert learning_rate(spec, 20, 100) == pytest.approx(1.0)
    assert learning_rate(spec, 60, 100) == pytest.approx(half_way)


def test_the_last_step_still_moves_and_the_one_after_would_not() -> None:
    linear, cosine = (OptimizerSpec(rate=1.0, warmup=0, hold=0.0, decay=decay) for decay in ("linear", "cosine"))

    assert learning_rate(linear, 99, 100) == pytest.approx(0.01)
    assert learning_rate(cosine, 99, 100) == pytest.approx(0.5 * (1 + math.cos(0.99 * math.pi)))
    assert learning_rate(linear, 100, 100) == learning_rate(cosine, 100, 100) == 0


def test_a_plateau_to_the_end_is_possible() -> None:
    assert learning_rate(OptimizerSpec(rate=1.0, warmup=0, hold=1.0), 99, 100) == 1.0


def test_only_matrices_and_kernels_decay() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.Flatten(), nn.Linear(4, 2))
    net[0].bias.requires_grad_(False)

    decayed, spared = build_optimizer(OptimizerSpec(weight_decay=0.1), net).param_groups

    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.1, 0.0)
    assert {id(p) for p in decayed["params"]} == {id(net[0].weight), id(net[3].weight)}
    assert {id(p) for p in spared["params"]} == {id(net[1].weight), id(net[1].bias), id(net[3].bias)}


def test_all_groups_get_the_rate() -> None:
    optimizer = build_optimizer(OptimizerSpec(), nn.Linear(2, 2))
    set_rate(optimizer, 0.25)

    assert [group["lr"] for group in optimizer.param_groups] == [0.25, 0.25]


def test_clipping_keeps_the_direction_and_tells_the_norm_before() -> None:
    p, q = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1))
    p.grad, q.grad = torch.tensor([3.0, 0.0]), torch.tensor([4.0])

    assert float(clip([p, q], 1.0)) == pytest.approx(5.0)
    assert torch.allclose(torch.cat([p.grad, q.grad]), torch.tensor([0.6, 0.0, 0.8]), atol=1e-5)
    assert float(clip([p, q], 10.0)) == pytest.approx(1.0, abs=1e-5)
    assert torch.allclose(p.grad, torch.tensor([0.6, 0.0]), atol=1e-5)
