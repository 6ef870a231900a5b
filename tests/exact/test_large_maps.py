"""What is done for large maps alone, in strips and in phases, gives the numbers that layers give one after the other."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from undiffuse.core.random import normal
from undiffuse.networks import blocks, strips
from undiffuse.networks.blocks import ResidualBlock, Upsample, phase_kernels


def filled(net: nn.Module) -> nn.Module:
    for name, weight in net.named_parameters():
        weight.data = 0.3 * normal(tuple(weight.shape), "large maps", name) + float(name.endswith("norm1.weight"))
    return net.eval().requires_grad_(False)


def relative_error(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).abs().max() / wanted.abs().max())


@pytest.mark.parametrize("height", [4, 7, 23])
@pytest.mark.parametrize("width_out", [8, 16])
def test_residual_blocks_in_strips(height: int, width_out: int, monkeypatch: pytest.MonkeyPatch) -> None:
    block = filled(ResidualBlock(16, width_out))
    x = 5 + normal((2, 16, height, 9), "large maps", "x")
    with torch.enable_grad():
        wanted = block(x)
    monkeypatch.setattr(strips, "LARGE", 1)
    monkeypatch.setattr(strips, "STRIP", 1)  # four rows each
    with torch.no_grad():
        assert relative_error(block(x), wanted) <= 1e-6


@pytest.mark.parametrize("height", [1, 4, 5, 13])
def test_doubling_in_phases(height: int, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = filled(Upsample(6))
    x = normal((2, 6, height, 7), "large maps", "doubled")
    with torch.enable_grad():
        wanted = layer(x)
    monkeypatch.setattr(blocks, "FOLDED_FROM", 1)
    monkeypatch.setattr(strips, "STRIP", 1)
    with torch.no_grad():
        assert relative_error(layer(x), wanted) <= 1e-6


def test_kernels_of_the_phases_hold_what_the_whole_one_holds() -> None:
    weight = normal((4, 3, 3, 3), "large maps", "kernel")
    for kernel in (kernel for row in phase_kernels(weight) for kernel in row):
        torch.testing.assert_close(kernel.sum((2, 3)), weight.sum((2, 3)))


def test_layers_that_something_is_added_to_are_called_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "FOLDED_FROM", 1)
    layer = filled(Upsample(6))
    layer.conv.register_forward_hook(lambda module, args, output: output + 1)
    x = normal((1, 6, 4, 4), "large maps", "hooked")
    with torch.no_grad():
        wanted = F.conv2d(F.interpolate(x, scale_factor=2.0), layer.conv.weight, layer.conv.bias, padding=1) + 1
        torch.testing.assert_close(layer(x), wanted)
