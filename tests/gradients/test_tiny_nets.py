"""Gradients of the decoder for previews and of VGG's distance against finite differences, away from the kinks of ReLU."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call

from undiffuse.core.random import normal, uniform
from undiffuse.networks.perceptual import PerceptualDistance
from undiffuse.networks.tiny_decoder import TinyDecoder
from undiffuse.networks.vgg import Vgg
from undiffuse.training.objectives.autoencoder import gradient_loss


def random(*shape: int, name: str = "x") -> Tensor:
    return normal(shape, "gradients", name).double()


def randomised(net: nn.Module) -> nn.Module:
    with torch.no_grad():
        for name, weight in net.named_parameters():
            weight.copy_(0.5 * normal(weight.shape, "gradients", name))
    return net.double()


def test_tiny_decoder_in_latents_and_parameters() -> None:
    net = randomised(TinyDecoder(latent_channels=2, out_channels=1, factor=4, width=3, blocks=1, patch=2))
    names = [name for name, _ in net.named_parameters()]
    values = [random(1, 2, 2, 2), *(weight.detach().clone() for weight in net.parameters())]

    def run(z: Tensor, *weights: Tensor) -> Tensor:
        return functional_call(net, dict(zip(names, weights, strict=True)), z)

    assert torch.autograd.gradcheck(run, [value.requires_grad_() for value in values], fast_mode=True)


def test_distance_through_vgg_and_heads_in_both_pictures() -> None:
    net = PerceptualDistance(randomised(Vgg(((3,), (4, 2)))), [uniform((width,), "head", width).double() for width in (3, 2)])
    net.double()
    inputs = [random(2, 3, 4, 4, name=name).requires_grad_() for name in ("x", "y")]
    assert torch.autograd.gradcheck(net, inputs, fast_mode=True)


def test_loss_of_neighbouring_errors() -> None:
    assert torch.autograd.gradcheck(gradient_loss, random(2, 3, 3, 4).requires_grad_())
