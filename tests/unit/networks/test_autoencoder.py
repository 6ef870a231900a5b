"""The autoencoder, its discriminator and the distances that train it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from undiffuse.core.random import normal, uniform
from undiffuse.networks.autoencoder import Autoencoder, Downsample
from undiffuse.networks.discriminator import Discriminator
from undiffuse.networks.efficientnet import EfficientNet, SameConv2d, Stage
from undiffuse.networks.perceptual import PerceptualDistance

SHAPES: list[tuple[dict[str, Any], int]] = [
    ({"widths": (8, 16)}, 2),
    ({"widths": (8, 8, 8), "attention_levels": (2,)}, 4),
    ({"widths": (8, 16), "patch": 2, "shortcut": True, "mid_attention": False}, 4),
    ({"widths": (8,), "patch": 4, "decoder_blocks": 1}, 4),
]


@pytest.mark.parametrize(("options", "factor"), SHAPES)
@torch.no_grad()
def test_latents_are_smaller_by_the_factor(options: dict[str, Any], factor: int) -> None:
    net = Autoencoder(latent_channels=3, blocks=1, **options)
    x = 2 * uniform((2, 3, 16, 24), "x") - 1
    mean, logvar = net.encode(x)
    assert net.factor == factor
    assert mean.shape == logvar.shape == (2, 3, 16 // factor, 24 // factor)
    assert net.decode(mean).shape == x.shape


@torch.no_grad()
def test_a_reconstruction_goes_through_a_sampled_latent() -> None:
    net = Autoencoder(latent_channels=2, widths=(8,), blocks=1)
    x, noise = normal((2, 3, 4, 4), "x"), normal((2, 2, 4, 4), "noise")
    remade, mean, logvar = net(x, noise)
    torch.testing.assert_close(remade, net.decode(mean + torch.exp(logvar / 2) * noise))
    torch.testing.assert_close(net(x, 0 * noise)[0], net.decode(mean))


@torch.no_grad()
def test_log_variances_stay_in_their_range() -> None:
    net = Autoencoder(latent_channels=1, widths=(8,), blocks=1)
    nn.init.zeros_(net.to_moments.weight)
    for bias, expected in ((-1e4, -30.0), (1e4, 20.0)):
        nn.init.constant_(net.to_moments.bias, bias)  # type: ignore[arg-type]
        assert net.encode(torch.zeros(1, 3, 2, 2))[1].unique().tolist() == [expected]


def test_decoder_blocks_are_one_more_unless_told() -> None:
    def residuals(net: Autoencoder) -> int:
        return sum("conv1.weight" in name for name, _ in net.decoder.levels.named_parameters())

    assert residuals(Autoencoder(latent_channels=1, widths=(8, 8), blocks=2)) == 6
    assert residuals(Autoencoder(latent_channels=1, widths=(8, 8), blocks=2, decoder_blocks=2)) == 4


@torch.no_grad()
def test_started_linear_it_projects_patches_onto_the_components() -> None:
    f, channels = 4, 5
    net = Autoencoder(latent_channels=channels, widths=(8, 8), blocks=1, patch=2, shortcut=True, mid_attention=False)
    basis = torch.linalg.qr(normal((3 * f * f, channels), "basis")).Q.T  # (C, 48), orthonormal
    patch_mean = normal((3,), "mean")[:, None, None].expand(3, f, f)
    deviations = torch.linspace(0.5, 3, channels)
    net.start_linear(patch_mean, basis.view(channels, 3, f, f), deviations)
    x = normal((2, 3, 8, 8), "x")
    patches = x.unflatten(2, (2, f)).unflatten(4, (2, f)).permute(0, 2, 4, 1, 3, 5).flatten(3)  # (B, 2, 2, 48)
    centred = patches - patch_mean.flatten()
    mean, logvar = net.encode(x)
    torch.testing.assert_close(mean.permute(0, 2, 3, 1), centred @ basis.T / deviations, atol=1e-5, rtol=1e-5)
    assert logvar.unique().tolist() == [-6.0]
    expected = centred @ basis.T @ basis + patch_mean.flatten()
    remade = net.decode(mean).unflatten(2, (2, f)).unflatten(4, (2, f)).permute(0, 2, 4, 1, 3, 5).flatten(3)
    torch.testing.assert_close(remade, expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_downsampling_pads_right_and_bottom() -> None:
    down = Downsample(1)
    nn.init.zeros_(down.conv.bias)  # type: ignore[arg-type]
    nn.init.zeros_(down.conv.weight)
    down.conv.weight[0, 0, 0, 0] = 1  # takes the upper left pixel of every window
    x = torch.arange(16.0).view(1, 1, 4, 4)
    assert torch.equal(down(x), x[..., ::2, ::2])


@pytest.mark.parametrize(("layers", "side"), [(1, 30), (2, 14), (3, 6)])
@torch.no_grad()
def test_a_discriminator_scores_patches(layers: int, side: int) -> None:
    scores = Discriminator(width=4, layers=layers)(normal((2, 3, 64, 64), "x"))
    assert scores.shape == (2, 1, side, side)


def test_three_layers_see_patches_of_70_pixels() -> None:
    net = Discriminator(width=2, layers=3).eval()
    for module in net.modules():
        if isinstance(module, nn.GroupNorm):
            module.register_forward_hook(lambda _, inputs, __: inputs[0])  # norms look at the whole map: leave them out
    x = normal((1, 3, 128, 128), "x").requires_grad_()
    net(x)[0, 0, 6, 6].backward()
    assert x.grad is not None
    rows = x.grad.abs().amax((0, 1, 3)).nonzero().flatten()
    assert int(rows.max() - rows.min()) + 1 == 70


@pytest.fixture(scope="module")
def backbone() -> EfficientNet:
    stages = (Stage(1, 3, 1, 1, 4), Stage(2, 3, 2, 2, 6), Stage(1, 5, 2, 2, 8))
    return EfficientNet(stages=stages, stem=4, head=12, classes=5)


@torch.no_grad()
def test_features_are_the_last_map_of_every_resolution(backbone: EfficientNet) -> None:
    x = normal((2, 3, 33, 48), "x")
    shapes = [tuple(f.shape[1:]) for f in backbone.features(x)]
    assert shapes == [(4, 17, 24), (6, 9, 12), (8, 5, 6)]
    assert backbone.embed(x).shape == (2, 12)
    assert backbone(x).shape == (2, 5)


@pytest.mark.parametrize("size", [6, 7])
@pytest.mark.parametrize("kernel", [3, 5])
@torch.no_grad()
def test_same_padding_centres_or_leans_right(size: int, kernel: int) -> None:
    conv = SameConv2d(1, 1, kernel_size=kernel, stride=2)
    x = normal((1, 1, size, size), "x")
    outside = (-(-size // 2) - 1) * 2 + kernel - size
    padded = torch.nn.functional.pad(x, (outside // 2, outside - outside // 2) * 2)
    torch.testing.assert_close(conv(x), torch.nn.functional.conv2d(padded, conv.weight, conv.bias, stride=2))


@torch.no_grad()
def test_the_distance_is_zero_for_equal_pictures_symmetric_and_one_a_picture(backbone: EfficientNet) -> None:
    distance = PerceptualDistance(backbone)
    x, y = normal((3, 3, 32, 32), "x"), normal((3, 3, 32, 32), "y")
    assert not distance(x, x).any()
    assert (distance(x, y) > 0).all()
    torch.testing.assert_close(distance(x, y), distance(y, x))
    torch.testing.assert_close(distance(x, y)[1:2], distance(x[1:2], y[1:2]))


class Colours(nn.Module):
    """Features are the pixels themselves."""

    def features(self, x: Tensor) -> list[Tensor]:
        return [x, 3 * x]


def test_the_distance_compares_directions_of_features() -> None:
    red, green = torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1), torch.tensor([0.0, 5, 0]).view(1, 3, 1, 1)
    distance = PerceptualDistance(Colours())
    assert distance(red, green).tolist() == [4.0]  # two maps, each |e1 - e2|^2 = 2
    assert distance(red, 7 * red).tolist() == [0.0]


def test_the_backbone_is_frozen_and_stays_in_inference(backbone: EfficientNet) -> None:
    distance = PerceptualDistance(backbone).train()
    assert not any(module.training for module in distance.modules())
    assert not any(parameter.requires_grad for parameter in distance.parameters())
    x = normal((1, 3, 32, 32), "x").requires_grad_()
    distance(x, normal((1, 3, 32, 32), "y")).sum().backward()
    assert x.grad is not None
    assert x.grad.abs().max() > 0
