"""Weights at rest: the same pictures with no weight moved, and nothing left behind."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from undiffuse.checkpoints.api import load_model
from undiffuse.core.errors import UsageError
from undiffuse.core.random import normal
from undiffuse.generation.generator import Generator
from undiffuse.generation.memory import LOW, PLENTY, choose_memory
from undiffuse.generation.request import Request
from undiffuse.networks.resting import rest, rests, wake, working_dtype

CPU = torch.device("cpu")
REQUEST = Request("a fox", steps=2, seed=3, guidance=2.0)


def small_net() -> nn.Sequential:
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.Flatten(), nn.Linear(8 * 16, 5))
    for name, weight in net.named_parameters():
        weight.data = normal(tuple(weight.shape), "resting", name)
    return net


def test_weights_at_rest_compute_as_weights_that_were_moved() -> None:
    x = normal((2, 3, 6, 6), "resting", "x")
    resting, moved = small_net().half(), small_net().half().float()
    rest(resting, CPU, torch.float32)
    assert working_dtype(resting) == torch.float32
    assert torch.equal(resting(x), moved(x))
    assert {weight.dtype for weight in resting.parameters()} == {torch.float16}


def test_a_call_that_fails_leaves_the_weights_at_rest() -> None:
    net = small_net().half()
    rest(net, CPU, torch.float32)
    with pytest.raises(RuntimeError):
        net(torch.zeros(2, 4, 6, 6))
    assert {weight.dtype for weight in net.parameters()} == {torch.float16}


def test_woken_nets_have_no_hooks() -> None:
    net = small_net()
    rest(net, CPU, torch.float64)
    assert rests(net)
    wake(net)
    assert not rests(net)
    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in net.modules())


def test_low_memory_draws_the_same_picture_and_moves_no_weight() -> None:
    model = load_model()
    model.denoiser.network.half()
    before = [weight.data_ptr() for weight in model.denoiser.network.parameters()]
    low = Generator(model, precision="fp32", memory=LOW, tell=None)(REQUEST).images[0]
    assert [weight.data_ptr() for weight in model.denoiser.network.parameters()] == before
    plenty = Generator(model, precision="fp32", memory=PLENTY, tell=None)(REQUEST).images[0]
    assert low.tobytes() == plenty.tobytes()
    assert {weight.dtype for weight in model.denoiser.network.parameters()} == {torch.float32}


def test_memory_is_chosen_by_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model()
    model.denoiser.network.half()
    for free, way in ((10**12, PLENTY), (10**6, LOW)):
        monkeypatch.setattr("undiffuse.generation.memory.free_bytes", lambda device, free=free: free)
        assert choose_memory(model, CPU, torch.float32) == way
    assert choose_memory(model, CPU, torch.float32, PLENTY) == PLENTY


def test_an_unknown_way_is_refused() -> None:
    with pytest.raises(UsageError, match="allowed are auto, plenty, low"):
        Generator(load_model(), memory="little", tell=None)
