"""Both nets of a model with the names of their tensors in the layout of others."""

from __future__ import annotations

from typing import NamedTuple

from torch import nn

from undiffuse.checkpoints.keys.autoencoder import autoencoder_names
from undiffuse.checkpoints.keys.unet import unet_names
from undiffuse.model.latent_diffusion import LatentDiffusion


class Named(NamedTuple):
    """A net, and their names by ours."""

    net: nn.Module
    names: dict[str, str]


def denoiser_names(model: LatentDiffusion, layout: str) -> Named:
    """The U-Net, in "compvis" or "diffusers"."""
    net = model.denoiser.network
    return Named(net, unet_names(net.state_dict(), model.spec.denoiser.model_dump(), layout))


def codec_names(model: LatentDiffusion, layout: str) -> Named:
    """The autoencoder, in "compvis" or "diffusers"."""
    net = model.codec.autoencoder
    return Named(net, autoencoder_names(net.state_dict(), model.spec.codec.autoencoder.model_dump(), layout))
