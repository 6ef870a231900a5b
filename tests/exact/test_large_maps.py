"""What is done for large maps alone, in strips and in phases, gives the numbers that layers give one after the other."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from undiffuse.core.random import normal
from undiffuse.networks import attend, blocks, strips
from undiffuse.networks.autoencoder import Autoencoder
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


@pytest.mark.parametrize("side", [6, 13])
def test_a_whole_autoencoder_in_strips(side: int, monkeypatch: pytest.MonkeyPatch) -> None:
    net = filled(Autoencoder(latent_channels=4, widths=(8, 16), blocks=1))
    x = normal((1, 3, 2 * side, 2 * side), "large maps", "picture")
    with torch.enable_grad():
        mean, logvar = net.encode(x)
        wanted = net.decode(mean)
    monkeypatch.setattr(strips, "LARGE", 1)
    monkeypatch.setattr(strips, "STRIP", 1)
    monkeypatch.setattr(blocks, "FOLDED_FROM", 1)
    with torch.no_grad():
        found = net.encode(x)
        assert relative_error(found[0], mean) <= 1e-5 and relative_error(found[1], logvar) <= 1e-5
        assert relative_error(net.decode(mean), wanted) <= 1e-5


@pytest.mark.parametrize("shape", [(2, 3, 40, 8), (1, 70, 16)])
def test_attention_some_rows_at_a_time(shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attend, "ROWS", 16)
    query, key, value = (normal(shape, "rows", name) for name in ("q", "k", "v"))
    key, value = (torch.cat([one, one.flip(-1)], dim=-2) for one in (key, value))
    wanted = F.scaled_dot_product_attention(query, key, value)

    assert relative_error(attend.in_rows(query, key, value), wanted) <= 1e-6


def test_attention_in_half_precision_is_about_as_exact_as_the_kernel() -> None:
    query, key, value = (normal((1, 2, 1100, 40), "half", name) for name in ("q", "k", "v"))
    wanted = F.scaled_dot_product_attention(query, key, value)
    halves = [one.bfloat16() for one in (query, key, value)]
    with torch.no_grad():
        found, kernel = attend.attend(*halves), F.scaled_dot_product_attention(*halves)

    assert found.dtype == torch.bfloat16 and not torch.equal(found, kernel)
    assert float((found - wanted).norm()) <= 2 * float((kernel - wanted).norm())


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
