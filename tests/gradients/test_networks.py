"""Gradients of every block of the nets against finite differences in float64, for inputs and for parameters."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from undiffuse.core.conditioning import Conditioning
from undiffuse.core.random import normal
from undiffuse.networks import autoencoder as ae
from undiffuse.networks import unet
from undiffuse.networks.attention import Attention, GatedFeedForward, SpatialTransformer, TransformerBlock
from undiffuse.networks.blocks import ResidualBlock, SpatialSelfAttention
from undiffuse.networks.discriminator import Discriminator
from undiffuse.networks.embeddings import EmbeddingMLP, TableEmbedding, TimeEmbedding
from undiffuse.networks.perceptual import PerceptualDistance

MASK = torch.tensor([[True, True, False]])


def random(*shape: int, name: str = "x") -> Tensor:
    return normal(shape, "gradients", name).double()


def check(net: nn.Module, *inputs: Tensor, call: Callable[..., object] | None = None, whole: bool = False) -> None:
    """Randomise `net` in float64, zero-started layers too, and gradcheck it in all inputs and parameters.

    `whole` checks one random direction through all of them at once instead of every entry: for whole nets.
    """
    net.double()
    names = [name for name, parameter in net.named_parameters() if parameter.requires_grad]
    weights = [0.5 * random(*net.get_parameter(name).shape, name=name) for name in names]
    values = (*inputs, *weights)
    call = call or (lambda run, *given: run(*given))

    def run(*values: Tensor) -> object:
        state = dict(zip(names, values[len(inputs) :], strict=True))
        return call(lambda *args: functional_call(net, state, args), *values[: len(inputs)])

    def run_flat(flat: Tensor) -> object:
        parts = flat.split([value.numel() for value in values])
        return run(*(part.view_as(value) for part, value in zip(parts, values, strict=True)))

    if whole:
        flat = torch.cat([value.flatten() for value in values]).requires_grad_()
        assert torch.autograd.gradcheck(run_flat, (flat,), fast_mode=True)
    else:
        assert torch.autograd.gradcheck(run, tuple(value.clone().requires_grad_() for value in values))


@pytest.mark.parametrize("width_out", [2, 3])
def test_residual_block(width_out: int) -> None:
    block = ResidualBlock(2, width_out, embedding_width=3)
    check(block, random(2, 2, 3, 2), random(2, 3, name="embedding"))


def test_spatial_self_attention() -> None:
    check(SpatialSelfAttention(4), random(1, 4, 2, 3))


@pytest.mark.parametrize("mask", [None, MASK])
def test_attention(mask: Tensor | None) -> None:
    inputs = random(1, 2, 4), random(1, 3, 3, name="context")
    check(Attention(4, 3, heads=2), *inputs, call=lambda run, x, context: run(x, context, mask))


def test_masked_context_gets_no_gradient() -> None:
    attention = Attention(4, 3, heads=2)
    context = random(1, 3, 3).float().requires_grad_()
    attention(random(1, 2, 4).float(), context, MASK).square().sum().backward()
    assert context.grad is not None
    assert context.grad[0, 2].abs().max() == 0
    assert context.grad[0, :2].abs().min() > 0


def test_gated_feed_forward() -> None:
    check(GatedFeedForward(2), random(2, 2, 2))


def test_transformer_block_with_a_masked_context() -> None:
    inputs = random(1, 2, 4), random(1, 3, 3, name="context")
    check(TransformerBlock(4, 2, context_width=3), *inputs, call=lambda run, x, context: run(x, context, MASK))


def test_transformer_block_that_attends_to_its_context_alone() -> None:
    net = TransformerBlock(4, 2, context_width=3, cross_only=True)
    check(net, random(1, 2, 4), random(1, 3, 3, name="context"), call=lambda run, x, context: run(x, context, MASK))


def test_table() -> None:
    check(TableEmbedding(3, 2), random(2, 3))


def test_transformer_block_without_context() -> None:
    check(TransformerBlock(4, 2, context_width=None), random(1, 3, 4))


@pytest.mark.parametrize("linear", [False, True])
def test_spatial_transformer(linear: bool) -> None:
    net = SpatialTransformer(4, heads=2, depth=1, context_width=3, linear_projection=linear)
    check(net, random(1, 4, 2, 2), random(1, 2, 3, name="context"))


@pytest.mark.parametrize("net", [unet.Upsample(2), ae.Upsample(2), ae.Downsample(2)], ids=["unet up", "up", "down"])
def test_resampling(net: nn.Module) -> None:
    check(net, random(1, 2, 4, 2))


def test_time_embedding_in_its_parameters() -> None:
    t = torch.tensor([3.0, 700.5])
    check(TimeEmbedding(4, 3), call=lambda run: run(t))


def test_embedding_mlp() -> None:
    check(EmbeddingMLP(3, 2), random(2, 3))


def test_unet_with_every_way_of_conditioning() -> None:
    net = unet.UNet(
        in_channels=2,
        out_channels=1,
        widths=(4, 4),
        blocks=1,
        depths=(0, 1),
        heads=2,
        context_width=3,
        vector_width=2,
        spatial_channels=1,
    )
    t = torch.tensor([412.0])

    def call(run: Callable[..., Tensor], x: Tensor, vector: Tensor, tokens: Tensor, spatial: Tensor) -> Tensor:
        return run(x, t, Conditioning(vector=vector, tokens=tokens, token_mask=MASK, spatial=spatial))

    slots = (random(1, 2, name="vector"), random(1, 3, 3, name="tokens"), random(1, 1, 4, 2, name="spatial"))
    check(net, random(1, 2, 4, 2), *slots, call=call, whole=True)


AUTOENCODERS = {
    "as in Stable Diffusion": {"widths": (2, 4), "mid_attention": True},
    "attention at a level": {"widths": (2, 2), "attention_levels": (1,), "mid_attention": False},
    "patches and shortcut": {"widths": (4,), "patch": 2, "shortcut": True, "mid_attention": False},
}


@pytest.mark.parametrize("options", AUTOENCODERS.values(), ids=AUTOENCODERS)
def test_autoencoder(options: dict[str, object]) -> None:
    net = ae.Autoencoder(in_channels=1, latent_channels=2, blocks=1, **options)  # type: ignore[arg-type]
    check(net, random(1, 1, 4, 4), random(1, 2, 4 // net.factor, 4 // net.factor, name="noise"), whole=True)


def test_discriminator() -> None:
    check(Discriminator(in_channels=1, width=2, layers=1), random(1, 1, 8, 8), whole=True)


class SmoothBackbone(nn.Module):
    """Two maps of different sizes, without kinks."""

    def __init__(self) -> None:
        super().__init__()
        self.fine = nn.Conv2d(1, 3, 3, padding=1)
        self.coarse = nn.Conv2d(3, 2, 3, stride=2, padding=1)

    def features(self, x: Tensor) -> list[Tensor]:
        fine = torch.tanh(self.fine(x))
        return [fine, torch.tanh(self.coarse(fine))]


def test_perceptual_distance_in_both_pictures() -> None:
    distance = PerceptualDistance(SmoothBackbone())
    assert not [name for name, parameter in distance.named_parameters() if parameter.requires_grad]
    check(distance, random(2, 1, 4, 4), random(2, 1, 4, 4, name="y"))
