"""Principal components of picture patches: where an autoencoder with a linear shortcut starts."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from undiffuse.networks.autoencoder import ConvolutionalAutoencoder
from undiffuse.networks.quantizer import VQAutoencoder


def principal_patches(pixels: Tensor, size: int, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, leading orthonormal components and standard deviations of the patches of some pictures.

    Args:
        pixels: (B, 3, H, W), sides divisible by `size`.
        size: pixels on a side of a patch.
        count: components wanted.

    Returns:
        mean (3, size, size), components (count, 3, size, size), deviations (count,).
    """
    channels = pixels.shape[1]
    patches = pixels.unfold(2, size, size).unfold(3, size, size)  # (B, 3, h, w, size, size)
    rows = patches.permute(0, 2, 3, 1, 4, 5).reshape(-1, channels * size * size).double()
    mean = rows.mean(0)
    values, vectors = torch.linalg.eigh(torch.cov((rows - mean).T))  # ascending
    components = vectors.flip(1)[:, :count].T
    deviations = values.flip(0)[:count].clamp_min(1e-8).sqrt()
    shape = (channels, size, size)
    return mean.view(shape).float(), components.reshape(count, *shape).float(), deviations.float()


def start_at_principal_components(autoencoder: ConvolutionalAutoencoder, pixels: Tensor, rng: np.random.Generator) -> None:
    """Let an autoencoder with shortcuts begin as the PCA of these pictures (B, 3, H, W).

    Codes, if it has any, begin at latents of these pictures that `rng` chooses, all different where there are enough:
    codes of the usual start, close to 0, would be left behind by latents of unit variance.
    """
    channels = autoencoder.from_latent.in_channels
    autoencoder.start_linear(*principal_patches(pixels, autoencoder.factor, channels))
    if isinstance(autoencoder, VQAutoencoder) and autoencoder.shortcut_in is not None:
        with torch.no_grad():
            latents = autoencoder.shortcut_in(pixels).movedim(1, -1).flatten(0, -2).unique(dim=0)  # (N, C): all there is yet
        autoencoder.quantizer.start_at(latents[torch.from_numpy(rng.permutation(len(latents)))])
