"""What must hold for every net: a picture does not depend on its batch, arguments stay as they are, probes only watch."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from undiffuse.core.conditioning import Conditioning
from undiffuse.core.random import normal
from undiffuse.networks.attention import Attention, SpatialTransformer
from undiffuse.networks.autoencoder import Autoencoder
from undiffuse.networks.blocks import ResidualBlock, SpatialSelfAttention
from undiffuse.networks.discriminator import Discriminator
from undiffuse.networks.efficientnet import EfficientNet, Stage
from undiffuse.networks.perceptual import PerceptualDistance
from undiffuse.networks.unet import UNet

BATCH = 8
Inputs = tuple[Tensor, ...]


class Case(NamedTuple):
    """A net, how it is called on a batch, and the shapes of one row of its arguments."""

    net: Callable[[], nn.Module]
    call: Callable[..., Tensor]
    rows: tuple[tuple[int, ...], ...]


def call_unet(net: nn.Module, x: Tensor, t: Tensor, vector: Tensor, tokens: Tensor, spatial: Tensor) -> Tensor:
    mask = tokens[..., 0] < 0.5
    return net(x, 500 + 100 * t[:, 0], Conditioning(vector=vector, tokens=tokens, token_mask=mask, spatial=spatial))


def small_efficientnet() -> EfficientNet:
    return EfficientNet(stages=(Stage(1, 3, 1, 1, 4), Stage(2, 5, 2, 2, 6)), stem=4, head=8, classes=3)


def unet() -> UNet:
    options = {"context_width": 6, "vector_width": 5, "spatial_channels": 2}
    return UNet(in_channels=4, out_channels=4, widths=(32, 64), blocks=1, depths=(1, 1), heads=2, **options)  # type: ignore[arg-type]


def autoencoder() -> Autoencoder:
    return Autoencoder(latent_channels=4, widths=(16, 32), blocks=1, patch=2, shortcut=True)


CASES = {
    "UNet": Case(unet, call_unet, ((4, 8, 8), (1,), (5,), (7, 6), (2, 8, 8))),
    "encoder": Case(autoencoder, lambda net, x: torch.cat(net.encode(x), dim=1), ((3, 16, 16),)),
    "decoder": Case(autoencoder, lambda net, z: net.decode(z), ((4, 4, 4),)),
    "Autoencoder": Case(autoencoder, lambda net, x, noise: net(x, noise)[0], ((3, 16, 16), (4, 4, 4))),
    "Discriminator": Case(lambda: Discriminator(width=8), lambda net, x: net(x), ((3, 32, 32),)),
    "EfficientNet": Case(small_efficientnet, lambda net, x: net(x), ((3, 16, 16),)),
    "PerceptualDistance": Case(
        lambda: PerceptualDistance(small_efficientnet()), lambda net, x, y: net(x, y), ((3, 16, 16), (3, 16, 16))
    ),
    "ResidualBlock": Case(lambda: ResidualBlock(8, 12, embedding_width=5), lambda net, x, e: net(x, e), ((8, 4, 4), (5,))),
    "SpatialSelfAttention": Case(lambda: SpatialSelfAttention(8), lambda net, x: net(x), ((8, 4, 4),)),
    "SpatialTransformer": Case(
        lambda: SpatialTransformer(8, 2, 2, context_width=6, linear_projection=True),
        lambda net, x, context: net(x, context),
        ((8, 4, 4), (7, 6)),
    ),
}


def randomised(net: nn.Module) -> nn.Module:
    """Random numbers where a net starts with zeros, which would hide what lies behind them."""
    with torch.no_grad():
        for name, weight in net.named_parameters():
            if weight.abs().max() == 0:
                weight.copy_(normal(weight.shape, "invariants", name) * 0.1)
    return net.eval()


@pytest.fixture(params=CASES.values(), ids=CASES)
def case(request: pytest.FixtureRequest) -> tuple[nn.Module, Callable[..., Tensor], Inputs]:
    """A net, how to call it and a batch of arguments."""
    net, call, rows = request.param
    return randomised(net()), call, tuple(normal((BATCH, *row), "invariants", i) for i, row in enumerate(rows))


@torch.no_grad()
def test_a_picture_does_not_depend_on_its_batch(case: tuple[nn.Module, Callable[..., Tensor], Inputs]) -> None:
    net, call, inputs = case
    together = call(net, *inputs)
    for row in range(BATCH):
        alone = call(net, *(x[row : row + 1] for x in inputs))
        torch.testing.assert_close(together[row : row + 1], alone, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_picture_does_not_depend_on_its_place_in_the_batch(case: tuple[nn.Module, Callable[..., Tensor], Inputs]) -> None:
    net, call, inputs = case
    turned = call(net, *(x.roll(3, dims=0) for x in inputs))
    torch.testing.assert_close(turned.roll(-3, dims=0), call(net, *inputs), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("gradients", [False, True])
def test_arguments_and_weights_stay_as_they_are(case: tuple[nn.Module, Callable[..., Tensor], Inputs], gradients: bool) -> None:
    net, call, inputs = case
    before = [x.clone() for x in inputs]
    weights = {name: weight.clone() for name, weight in net.state_dict().items()}
    given = [x.clone().requires_grad_(gradients) for x in inputs]
    output = call(net, *given)
    if gradients:
        output.square().sum().backward()
    assert all(torch.equal(x, old) for x, old in zip(given, before, strict=True))
    assert all(torch.equal(weight, weights[name]) for name, weight in net.state_dict().items())


@torch.no_grad()
def test_the_output_shares_no_memory_with_the_arguments(case: tuple[nn.Module, Callable[..., Tensor], Inputs]) -> None:
    net, call, inputs = case
    places = {x.untyped_storage().data_ptr() for x in inputs}
    assert call(net, *inputs).untyped_storage().data_ptr() not in places


@torch.no_grad()
def test_probes_see_every_attention_and_change_nothing() -> None:
    net = randomised(unet())
    inputs = tuple(normal((2, *row), "probe", i) for i, row in enumerate(CASES["UNet"].rows))
    expected = call_unet(net, *inputs)
    seen: dict[str, Tensor] = {}
    attentions = {name: module for name, module in net.named_modules() if isinstance(module, Attention)}
    for name, attention in attentions.items():
        attention.probe = lambda weights, name=name: seen.update({name: weights})
    assert torch.equal(call_unet(net, *inputs), expected)
    assert seen.keys() == attentions.keys()
    mask = inputs[3][..., 0] < 0.5  # tokens that count
    for name, weights in seen.items():
        torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))
        if name.endswith("attend_cross"):
            assert weights.shape[-1] == 7
            assert not weights.masked_select(~mask[:, None, None, :]).any()


@torch.no_grad()
def test_a_probe_sees_what_is_mixed() -> None:
    attention = Attention(8, 6, heads=2).eval()
    x, context = normal((2, 3, 8), "x"), normal((2, 5, 6), "context")
    seen: list[Tensor] = []
    attention.probe = seen.append
    output = attention(x, context)
    value = attention.to_value(context).unflatten(2, (2, 4)).transpose(1, 2)  # (B, heads, M, 4)
    torch.testing.assert_close(output, attention.to_out((seen[0] @ value).transpose(1, 2).flatten(2)))
