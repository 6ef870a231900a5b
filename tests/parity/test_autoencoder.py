"""Both convolutional autoencoders against diffusers' `AutoencoderKL` and `VQModel`, on tiny random nets."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, VQModel
from torch import Tensor, nn

from undiffuse.checkpoints.keys.autoencoder import autoencoder_names
from undiffuse.core.random import normal
from undiffuse.networks.autoencoder import Autoencoder, ConvolutionalAutoencoder
from undiffuse.networks.quantizer import VQAutoencoder

CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "as in Stable Diffusion": ({}, {}),
    "without attention": ({"mid_attention": False}, {"mid_block_add_attention": False}),
    "attention at the lowest level": (
        {"attention_levels": (1,)},
        {
            "down_block_types": ("DownEncoderBlock2D", "AttnDownEncoderBlock2D"),
            "up_block_types": ("AttnUpDecoderBlock2D", "UpDecoderBlock2D"),
        },
    ),
}


@pytest.fixture(params=CASES.values(), ids=CASES, scope="module")
def nets(request: pytest.FixtureRequest) -> tuple[Autoencoder, AutoencoderKL]:
    """Our net and the oracle with the same random numbers in every tensor."""
    options, theirs = request.param
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    oracle = AutoencoderKL(block_out_channels=(32, 64), layers_per_block=2, latent_channels=4, **(blocks | theirs)).eval()
    with torch.no_grad():
        for name, weight in oracle.named_parameters():
            weight.add_(normal(weight.shape, "autoencoder", name) * 0.1)
    ours = Autoencoder(latent_channels=4, widths=(32, 64), **options).eval()
    take_over(ours, oracle, **options)
    return ours, oracle


def take_over(ours: ConvolutionalAutoencoder, oracle: nn.Module, **options: Any) -> None:
    """Give our net the numbers of the oracle, every one of them."""
    state = oracle.state_dict()
    sizes = {"widths": (32, 64), "blocks": 2, "attention_levels": (), "mid_attention": True, **options}
    names = autoencoder_names(ours.state_dict(), sizes, "diffusers")
    assert sorted(names.values()) == sorted(state)
    shapes = {name: weight.shape for name, weight in ours.state_dict().items()}
    ours.load_state_dict({name: state[names[name]].view(shape) for name, shape in shapes.items()})  # linear maps as 1x1 kernels


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.abs().max())


@torch.no_grad()
def test_encoding_equals_the_oracle(nets: tuple[Autoencoder, AutoencoderKL]) -> None:
    ours, oracle = nets
    x = normal((2, 3, 16, 24), "autoencoder", "x")
    mean, logvar = ours.encode(x)
    expected = oracle.encode(x).latent_dist
    assert relative_error(mean, expected.mean) <= 1e-5
    assert relative_error(logvar, expected.logvar) <= 1e-5


@torch.no_grad()
def test_decoding_equals_the_oracle(nets: tuple[Autoencoder, AutoencoderKL]) -> None:
    ours, oracle = nets
    z = normal((2, 4, 8, 12), "autoencoder", "z")
    assert relative_error(ours.decode(z), oracle.decode(z).sample) <= 1e-5


@torch.no_grad()
def test_a_vq_autoencoder_equals_the_oracle() -> None:
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    sizes = {"block_out_channels": (32, 64), "layers_per_block": 2, "latent_channels": 3, "num_vq_embeddings": 17}
    oracle = VQModel(**sizes, **blocks).eval()
    for name, weight in oracle.named_parameters():
        weight.add_(normal(weight.shape, "autoencoder", name) * (2.0 if "embedding" in name else 0.1))
    ours = VQAutoencoder(codes=17, latent_channels=3, widths=(32, 64)).eval()
    take_over(ours, oracle)
    x = normal((2, 3, 16, 24), "autoencoder", "x")
    z = oracle.encode(x).latents
    assert relative_error(ours.encode(x)[0], z) <= 1e-5
    quantized, _, (_, _, indices) = oracle.quantize(z)
    assert ours.quantizer.nearest(z).flatten().tolist() == indices.tolist()
    assert len(indices.unique()) > 3
    assert relative_error(ours.quantizer(z).z, quantized) <= 1e-5
    assert relative_error(ours.decode(z), oracle.decode(z).sample) <= 1e-5
