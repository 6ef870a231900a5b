"""Gradients of the quantiser's terms against finite differences, where they are meant to exist, and nowhere else."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.func import functional_call

from undiffuse.core.random import normal
from undiffuse.networks.quantizer import VectorQuantizer, VQAutoencoder


def random(*shape: int, name: str = "z") -> Tensor:
    return normal(shape, "gradients", name).double()


def quantizer() -> VectorQuantizer:
    net = VectorQuantizer(5, 3).double()
    torch.nn.init.normal_(net.codes, generator=torch.Generator().manual_seed(0))
    return net


def test_the_codebook_term_in_the_codes() -> None:
    net, z = quantizer(), random(2, 3, 2, 2)
    assert torch.autograd.gradcheck(lambda codes: functional_call(net, {"codes": codes}, z).codebook, net.codes)


def test_the_commitment_term_in_the_latents() -> None:
    net = quantizer()
    assert torch.autograd.gradcheck(lambda z: net(z).commitment, random(2, 3, 2, 2).requires_grad_())


def test_what_is_decoded_pulls_at_the_encoder_as_at_codes_that_follow_it() -> None:
    """With every latent's offset to its code held, decoding is an ordinary function of the picture."""
    options = {"latent_channels": 2, "widths": (2, 2), "blocks": 1, "mid_attention": False}
    net = VQAutoencoder(codes=4, in_channels=1, **options).double()
    for name, weight in net.named_parameters():
        torch.nn.init.normal_(weight, std=0.5, generator=torch.Generator().manual_seed(len(name)))
    x = random(1, 1, 4, 4, name="x").requires_grad_()
    with torch.no_grad():
        z = net.encode(x)[0]
        offset = net.quantizer(z).z - z

    def followed(x: Tensor) -> Tensor:
        return super(VQAutoencoder, net).decode(net.encode(x)[0] + offset)

    assert torch.autograd.gradcheck(followed, x, fast_mode=True)
    pull = random(1, 1, 4, 4, name="pull")
    given, expected = (torch.autograd.grad((remade * pull).sum(), x)[0] for remade in (net(x)[0], followed(x)))
    torch.testing.assert_close(given, expected)
    assert given.abs().max() > 0
