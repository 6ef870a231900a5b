"""Spec to model: kinds are looked up in literal tables, sizes go to the nets as keyword arguments."""

from __future__ import annotations

from collections.abc import Callable

import torch
from tokenizers import Tokenizer

from undiffuse.conditioners.base import ConditionerPart, PartSpec
from undiffuse.conditioners.combined import Conditioner
from undiffuse.core.spec import pick
from undiffuse.diffusion.schedule import build_schedule
from undiffuse.model.codec import Codec
from undiffuse.model.denoiser import Denoiser
from undiffuse.model.latent_diffusion import LatentDiffusion
from undiffuse.model.spec import AnyAutoencoderSpec, CodecSpec, ModelSpec
from undiffuse.networks.autoencoder import Autoencoder, Coder, Identity
from undiffuse.networks.quantizer import VQAutoencoder
from undiffuse.networks.tiny_decoder import TinyDecoder
from undiffuse.networks.unet import UNet

AUTOENCODERS: dict[str, Callable[..., Coder]] = {"kl": Autoencoder, "vq": VQAutoencoder, "identity": Identity}
DENOISERS = {"unet": UNet}
PREVIEWERS = {"tiny": TinyDecoder}


def build_autoencoder(spec: AnyAutoencoderSpec) -> Coder:
    """A freshly initialised autoencoder of this spec."""
    return pick(AUTOENCODERS, spec.kind, "autoencoder")(**spec.model_dump(exclude={"kind"}))


def build_codec(spec: CodecSpec) -> Codec:
    """A codec of this spec with fresh weights."""
    return Codec(
        build_autoencoder(spec.autoencoder),
        torch.tensor(spec.latent.shift),
        torch.tensor(spec.latent.scale),
        factor=spec.autoencoder.factor,
        channels=spec.autoencoder.latent_channels,
        previewer=build_previewer(spec),
    )


def build_previewer(spec: CodecSpec) -> TinyDecoder | None:
    """The codec's decoder for previews with fresh weights; None when it has none."""
    if spec.preview is None:
        return None
    sizes = {"latent_channels": spec.autoencoder.latent_channels, "out_channels": spec.autoencoder.in_channels}
    options = spec.preview.model_dump(exclude={"kind"})
    return pick(PREVIEWERS, spec.preview.kind, "preview")(factor=spec.autoencoder.factor, **sizes, **options)


def build_part(spec: PartSpec, tokenizer: Tokenizer | None) -> ConditionerPart:
    """One conditioner of this spec.

    Raises:
        SpecError: when a text conditioner is asked for without a tokenizer.
    """
    return spec.build(tokenizer)


def build_denoiser(spec: ModelSpec) -> Denoiser:
    """The denoiser of this spec with fresh weights."""
    channels = spec.codec.autoencoder.latent_channels
    options = spec.denoiser.model_dump(exclude={"kind"})
    network = pick(DENOISERS, spec.denoiser.kind, "denoiser")(in_channels=channels, out_channels=channels, **options)
    return Denoiser(network, build_schedule(spec.schedule), spec.prediction)


def build_empty(spec: ModelSpec) -> LatentDiffusion:
    """A model of this spec whose weights are still to come, on the meta device: it costs no time and no memory.

    Buffers are there. Loading must assign the weights (`load_state_dict(..., assign=True)`), all of them.

    Raises:
        SpecError: when the spec asks for a tokenizer.
    """
    with torch.device("meta"):
        codec, denoiser = build_codec(spec.codec), build_denoiser(spec)
        parts = [build_part(part, None) for part in spec.conditioners]
    for part in parts:
        part.here_again()
    shift, scale = (torch.tensor(values) for values in (spec.codec.latent.shift, spec.codec.latent.scale))
    codec = Codec(codec.autoencoder, shift, scale, codec.factor, codec.channels, codec.previewer)
    return LatentDiffusion(codec, denoiser, Conditioner(parts), spec)


def build_model(spec: ModelSpec, tokenizer: Tokenizer | None = None) -> LatentDiffusion:
    """The whole model of this spec with fresh weights.

    Raises:
        SpecError: when the spec asks for text and no tokenizer is given.
    """
    parts = [build_part(part, tokenizer) for part in spec.conditioners]
    return LatentDiffusion(build_codec(spec.codec), build_denoiser(spec), Conditioner(parts), spec)
