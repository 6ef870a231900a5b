"""An autoencoder with shortcuts begins as the PCA of the patches."""

from __future__ import annotations

import pytest
import torch

from undiffuse.core.random import normal, numpy_stream
from undiffuse.networks.autoencoder import Autoencoder
from undiffuse.networks.quantizer import VQAutoencoder
from undiffuse.training.principal import principal_patches, start_at_principal_components

SIZE, COUNT = 4, 6


@pytest.fixture
def pixels() -> torch.Tensor:
    """Pictures with more variance in some directions than in others, and a mean that is not 0."""
    rough, smooth = normal((5, 3, 16, 16), "rough"), normal((5, 3, 4, 4), "smooth")
    enlarged = torch.nn.functional.interpolate(smooth, size=16, mode="bilinear")
    return 0.1 * rough + enlarged + torch.tensor([0.3, -0.2, 0.1]).view(3, 1, 1)


def patches_of(pixels: torch.Tensor) -> torch.Tensor:
    """(N, 3 * SIZE * SIZE) in float64, cut out with plain slices."""
    rows = [
        picture[:, top : top + SIZE, left : left + SIZE].flatten()
        for picture in pixels
        for top in range(0, 16, SIZE)
        for left in range(0, 16, SIZE)
    ]
    return torch.stack(rows).double()


def test_components_are_the_leading_singular_vectors(pixels: torch.Tensor) -> None:
    mean, components, deviations = principal_patches(pixels, SIZE, COUNT)
    rows = patches_of(pixels)
    _, singular, vectors = torch.linalg.svd(rows - rows.mean(0), full_matrices=False)

    found = components.flatten(1).double()
    assert torch.allclose(mean.flatten().double(), rows.mean(0), atol=1e-6)
    assert torch.allclose(found @ found.T, torch.eye(COUNT, dtype=torch.float64), atol=1e-5)
    assert torch.allclose((found * vectors[:COUNT]).sum(1).abs(), torch.ones(COUNT, dtype=torch.float64), atol=1e-4)
    assert torch.allclose(deviations.double(), singular[:COUNT] / (len(rows) - 1) ** 0.5, rtol=1e-4)


def test_the_start_reproduces_pca(pixels: torch.Tensor) -> None:
    net = Autoencoder(latent_channels=COUNT, widths=(8, 8), blocks=1, patch=2, shortcut=True, mid_attention=False)
    start_at_principal_components(net, pixels, numpy_stream("test"))
    with torch.no_grad():
        mean, logvar = net.encode(pixels)
        remade = net.decode(mean)

    # PCA leaves the patch mean's pattern to the bias of one number a channel, so the mean patch is put back by hand.
    rows = patches_of(pixels)
    centre = rows.mean(0)
    basis = torch.linalg.svd(rows - centre, full_matrices=False)[2][:COUNT]
    flat = centre.view(3, -1).mean(1, keepdim=True).expand(3, SIZE * SIZE).reshape(-1)
    expected = (rows - centre) @ basis.T @ basis + flat
    assert torch.allclose(patches_of(remade), expected, atol=1e-4)
    assert mean.mean((0, 2, 3)).abs().max() < 1e-4  # latents are centred and of unit variance
    assert torch.allclose(mean.std((0, 2, 3)), torch.ones(COUNT), atol=1e-3)
    assert torch.allclose(logvar, torch.full_like(logvar, -6.0), atol=1e-6)


def test_codes_begin_at_latents_of_the_pictures_all_different(pixels: torch.Tensor) -> None:
    options = {"latent_channels": COUNT, "widths": (8, 8), "blocks": 1, "patch": 2, "mid_attention": False}
    net = VQAutoencoder(codes=10, shortcut=True, **options)
    start_at_principal_components(net, torch.cat([pixels, pixels[:1]]), numpy_stream("test"))

    with torch.no_grad():
        latents = net.encode(pixels)[0].movedim(1, -1).flatten(0, -2)
    apart = (net.quantizer.codes[:, None] - latents).abs().amax(-1)  # (10, N)
    assert apart.amin(1).max() < 1e-4
    assert len(apart.argmin(1).unique()) == 10
