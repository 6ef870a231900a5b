"""Spec to model: kinds are looked up in literal tables, sizes go to the nets as keyword arguments."""

from __future__ import annotations

import torch
from tokenizers import Tokenizer

from undiffuse.conditioners.base import ConditionerPart
from undiffuse.conditioners.combined import Conditioner
from undiffuse.conditioners.labels import LabelConditioner
from undiffuse.conditioners.text import TextConditioner
from undiffuse.core.errors import SpecError, explain
from undiffuse.core.spec import pick
from undiffuse.diffusion.schedule import build_schedule
from undiffuse.model.codec import Codec
from undiffuse.model.denoiser import Denoiser
from undiffuse.model.latent_diffusion import LatentDiffusion
from undiffuse.model.spec import AutoencoderSpec, CodecSpec, ConditionerSpec, LabelSpec, ModelSpec, TextSpec
from undiffuse.networks.autoencoder import Autoencoder
from undiffuse.networks.text.bert import BertEncoder
from undiffuse.networks.unet import UNet

AUTOENCODERS = {"kl": Autoencoder}
DENOISERS = {"unet": UNet}


def build_autoencoder(spec: AutoencoderSpec) -> Autoencoder:
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
    )


def build_part(spec: ConditionerSpec, tokenizer: Tokenizer | None) -> ConditionerPart:
    """One conditioner of this spec.

    Raises:
        SpecError: when a text conditioner is asked for without a tokenizer.
    """
    if isinstance(spec, LabelSpec):
        return LabelConditioner(spec.classes, spec.width, route=spec.route)
    assert isinstance(spec, TextSpec)
    if tokenizer is None:
        raise SpecError(explain("a text conditioner without a tokenizer", "it needs tokenizer.json beside its weights"))
    encoder = BertEncoder(**spec.encoder.model_dump())
    return TextConditioner(tokenizer, encoder, length=spec.length, pooled=spec.pooled)


def build_denoiser(spec: ModelSpec) -> Denoiser:
    """The denoiser of this spec with fresh weights."""
    channels = spec.codec.autoencoder.latent_channels
    options = spec.denoiser.model_dump(exclude={"kind"})
    network = pick(DENOISERS, spec.denoiser.kind, "denoiser")(in_channels=channels, out_channels=channels, **options)
    return Denoiser(network, build_schedule(spec.schedule), spec.prediction)


def build_model(spec: ModelSpec, tokenizer: Tokenizer | None = None) -> LatentDiffusion:
    """The whole model of this spec with fresh weights.

    Raises:
        SpecError: when the spec asks for text and no tokenizer is given.
    """
    parts = [build_part(part, tokenizer) for part in spec.conditioners]
    return LatentDiffusion(build_codec(spec.codec), build_denoiser(spec), Conditioner(parts), spec)
