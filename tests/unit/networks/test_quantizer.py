"""The quantiser against a search by hand, and the autoencoder around it."""

from __future__ import annotations

import math

import pytest
import torch

from undiffuse.core.random import normal
from undiffuse.networks import quantizer
from undiffuse.networks.autoencoder import Autoencoder
from undiffuse.networks.quantizer import VectorQuantizer, VQAutoencoder, code_use

CODES = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 3.0]])


@pytest.fixture
def three() -> VectorQuantizer:
    net = VectorQuantizer(3, 2)
    with torch.no_grad():
        net.codes.copy_(CODES)
    return net


@pytest.mark.parametrize("at_once", [1, 7, 2**24])
def test_the_nearest_code_is_found(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantizer, "DISTANCES_AT_ONCE", at_once)
    net, z = VectorQuantizer(11, 3), normal((2, 3, 4, 5), "z")
    torch.nn.init.normal_(net.codes, generator=torch.Generator().manual_seed(0))
    apart = (z.movedim(1, -1)[..., None, :] - net.codes).square().sum(-1)  # (B, h, w, K)
    assert torch.equal(net.nearest(z), apart.argmin(-1))


def test_a_code_far_from_zero_is_found_in_bf16() -> None:
    """Distances in bf16 would not tell 100 from 100.25."""
    net = VectorQuantizer(2, 1)
    with torch.no_grad():
        net.codes.copy_(torch.tensor([[100.0], [100.25]]))
    with torch.autocast("cpu", torch.bfloat16):
        assert net.nearest(torch.tensor([100.2, 100.05]).view(1, 1, 1, 2)).flatten().tolist() == [1, 0]
    half = VectorQuantizer(3, 2).to(torch.bfloat16)
    assert half(torch.zeros(1, 2, 2, 2, dtype=torch.bfloat16)).z.dtype == torch.bfloat16


def test_codes_start_uniform_and_small() -> None:
    codes = VectorQuantizer(50, 400).codes
    assert float(codes.detach().abs().max()) == pytest.approx(1 / 50, rel=0.01)
    assert float(codes.detach().std()) == pytest.approx(1 / 50 / math.sqrt(3), rel=0.05)


def test_terms_and_gradients(three: VectorQuantizer) -> None:
    z = torch.tensor([[1.5, 0.5], [0.25, 2.0]]).T.view(1, 2, 1, 2).requires_grad_()
    found = three(z)
    assert found.indices.flatten().tolist() == [1, 2]
    torch.testing.assert_close(found.z, CODES[[1, 2]].T.view(1, 2, 1, 2))
    expected = (0.5**2 + 0.5**2 + 0.25**2 + 1) / 4
    assert [float(term.detach()) for term in (found.codebook, found.commitment)] == pytest.approx([expected] * 2)
    to_codes = torch.autograd.grad(found.codebook, [three.codes, z], allow_unused=True, retain_graph=True)
    to_latents = torch.autograd.grad(found.commitment, [three.codes, z], allow_unused=True, retain_graph=True)
    assert to_codes[1] is None and to_latents[0] is None
    torch.testing.assert_close(to_codes[0], torch.tensor([[0, 0], [-0.25, -0.25], [-0.125, 0.5]]))
    torch.testing.assert_close(to_latents[1].flatten(), torch.tensor([0.25, 0.125, 0.25, -0.5]))
    through = torch.autograd.grad((found.z * torch.arange(4.0).view_as(z)).sum(), z)[0]
    assert through.flatten().tolist() == [0, 1, 2, 3]  # as if nothing had been quantised


def test_codes_may_begin_at_latents(three: VectorQuantizer) -> None:
    three.start_at(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    assert three.codes.tolist() == [[1, 2], [3, 4], [1, 2]]


@pytest.mark.parametrize(
    ("counts", "use", "perplexity"), [([0, 0, 3, 0], 0.25, 1.0), ([5, 5, 5, 5], 1.0, 4.0), ([7, 7, 0, 0], 0.5, 2.0)]
)
def test_use_and_perplexity_of_a_codebook(counts: list[int], use: float, perplexity: float) -> None:
    found = code_use(torch.tensor(counts))
    assert [float(value) for value in found] == pytest.approx([use, perplexity])


@torch.no_grad()
def test_decoding_quantises_first() -> None:
    net = VQAutoencoder(codes=4, latent_channels=2, widths=(8, 8), blocks=1, mid_attention=False)
    x = normal((2, 3, 8, 8), "x")
    latents, logvar = net.encode(x)
    assert logvar is None and latents.shape == (2, 2, 4, 4)
    net.quantizer.codes.copy_(normal((4, 2), "codes"))
    remade, quantized = net(x)
    assert remade.shape == x.shape and quantized.indices.shape == (2, 4, 4)
    torch.testing.assert_close(net.decode(latents), remade)
    torch.testing.assert_close(net.decode(net.quantizer.look_up(quantized.indices)), remade)


def test_it_shares_both_halves_with_the_kl_kind() -> None:
    options = {"latent_channels": 2, "widths": (8, 8), "blocks": 1}
    kl, vq = Autoencoder(**options), VQAutoencoder(codes=4, **options)
    ours, theirs = ({name: tuple(value.shape) for name, value in net.state_dict().items()} for net in (vq, kl))
    assert ours.keys() - theirs.keys() == {"quantizer.codes"} and theirs.keys() <= ours.keys()
    differ = {name for name in theirs if ours[name] != theirs[name]}
    assert differ == {f"{part}.{kind}" for part in ("encoder.last", "to_moments") for kind in ("weight", "bias")}


@torch.no_grad()
def test_started_linear_latents_are_projections() -> None:
    net = VQAutoencoder(codes=4, latent_channels=3, widths=(8,), blocks=1, patch=2, shortcut=True, mid_attention=False)
    components = torch.linalg.qr(normal((12, 3), "basis")).Q.T.view(3, 3, 2, 2)
    net.start_linear(torch.zeros(3, 2, 2), components, torch.ones(3))
    x = normal((1, 3, 4, 4), "x")
    torch.testing.assert_close(net.encode(x)[0], torch.nn.functional.conv2d(x, components, stride=2))
