"""What is done for large maps alone, in strips and in phases, gives the numbers that layers give one after the other."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from undiffuse.core.random import normal
from undiffuse.networks import attend, blocks, strips
from undiffuse.networks.attention import GatedFeedForward
from undiffuse.networks.autoencoder import Autoencoder
from undiffuse.networks.blocks import ResidualBlock, Upsample, phase_kernels, transposed_kernel


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
    query, key, value = (normal(shape, "rows", name) for name in ("q", "k", "v"))
    key, value = (torch.cat([one, one.flip(-1)], dim=-2) for one in (key, value))
    monkeypatch.setattr(attend, "AT_ONCE", 16 * key.shape[-2])
    wanted = F.scaled_dot_product_attention(query, key, value)

    assert relative_error(attend.in_rows(query, key, value), wanted) <= 1e-6


def heads_side_by_side(size: float = 1.0) -> list[Tensor]:
    """Queries, keys and values (2, 3, 300, 40) as an attention layer splits tokens (2, 300, 3 * 40)."""
    return [size * normal((2, 300, 120), "half", name).unflatten(2, (3, 40)).transpose(1, 2) for name in ("q", "k", "v")]


def test_attention_in_half_precision_is_about_as_exact_as_the_kernel() -> None:
    heads = heads_side_by_side()
    wanted = F.scaled_dot_product_attention(*heads)
    halves = [one.bfloat16() for one in heads]
    with torch.no_grad():
        found, kernel = attend.attend(*halves), F.scaled_dot_product_attention(*halves)

    assert found.dtype == torch.bfloat16 and not torch.equal(found, kernel)
    assert float((found - wanted).norm()) <= 3 * float((kernel - wanted).norm())
    assert found.transpose(1, 2).is_contiguous()  # heads lie side by side again


def test_logits_too_large_for_plain_exponentials_are_still_attended_to() -> None:
    query, key, value = heads_side_by_side()
    halves = [(8 * query).bfloat16(), (8 * key).bfloat16(), value.bfloat16()]
    wanted = F.scaled_dot_product_attention(*(one.float() for one in halves))
    assert (halves[0].float() @ halves[1].float().mT / 40**0.5).max() > 100  # whose exponentials bfloat16 does not hold
    with torch.no_grad():
        found = attend.attend(*halves)

    assert float((found - wanted).norm() / wanted.norm()) <= 0.1


def test_kernels_of_the_phases_hold_what_the_whole_one_holds() -> None:
    weight = normal((4, 3, 3, 3), "large maps", "kernel")
    for kernel in (kernel for row in phase_kernels(weight) for kernel in row):
        torch.testing.assert_close(kernel.sum((2, 3)), weight.sum((2, 3)))


def test_a_transposed_convolution_doubles_as_well() -> None:
    layer = filled(Upsample(6))
    x = normal((2, 6, 5, 7), "large maps", "transposed")
    wanted = F.conv2d(F.interpolate(x, scale_factor=2.0), layer.conv.weight, layer.conv.bias, padding=1)
    found = F.conv_transpose2d(x, transposed_kernel(layer.conv.weight), layer.conv.bias, stride=2, padding=1)
    assert relative_error(found, wanted) <= 1e-6


@pytest.mark.parametrize("hooked", [False, True])
def test_a_gated_layer_is_the_same_in_two_products(hooked: bool) -> None:
    layer = filled(GatedFeedForward(8)).double()
    if hooked:
        layer.widen.register_forward_hook(lambda module, args, output: 2 * output)
    x = normal((2, 5, 8), "large maps", "gated").double()
    with torch.enable_grad():
        wanted = layer(x)
    with torch.no_grad():
        assert relative_error(layer(x), wanted) <= 1e-6


def test_layers_that_something_is_added_to_are_called_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "FOLDED_FROM", 1)
    layer = filled(Upsample(6))
    layer.conv.register_forward_hook(lambda module, args, output: output + 1)
    x = normal((1, 6, 4, 4), "large maps", "hooked")
    with torch.no_grad():
        wanted = F.conv2d(F.interpolate(x, scale_factor=2.0), layer.conv.weight, layer.conv.bias, padding=1) + 1
        torch.testing.assert_close(layer(x), wanted)
