"""Autoencoders of Stable Diffusion's make in files of their own, in the place of a model's own one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from undiffuse.checkpoints.diffusers_folder import config_of, modern_names, weights_of
from undiffuse.checkpoints.diffusers_specs import codec_spec
from undiffuse.checkpoints.file_hashes import whole_hash
from undiffuse.checkpoints.foreign_tensors import read_tensors
from undiffuse.checkpoints.keys.autoencoder import autoencoder_names
from undiffuse.checkpoints.keys.clip import check_names
from undiffuse.checkpoints.single_file import HARMLESS, VAE, assign
from undiffuse.core.errors import CheckpointError, ShapeMismatch, UnknownFormat, explain
from undiffuse.model.adapters import Origins
from undiffuse.model.build import build_codec
from undiffuse.model.codec import Codec
from undiffuse.model.latent_diffusion import LatentDiffusion
from undiffuse.model.spec import CodecSpec

CONFIG, STEM = "config.json", "diffusion_pytorch_model"
NEEDED = "an autoencoder in a file (.safetensors, .ckpt, .pt), or the folder 'vae' of a diffusers pipeline, is needed"


def with_vae(model: LatentDiffusion, path: str | Path) -> LatentDiffusion:
    """The model with another autoencoder: new latents and pictures, the same denoiser. Before LoRAs are added.

    Args:
        model: of Stable Diffusion's make.
        path: a file in the layout of CompVis or of diffusers, or a folder with config.json.

    Raises:
        CheckpointError: when it is missing, damaged, no autoencoder, or does not hold exactly what one needs.
        ShapeMismatch: when its latents are of another kind than the denoiser's.
    """
    path = Path(path)
    spec, tensors = _folder(path) if path.is_dir() else (model.spec.codec, _file(path))
    own, new = model.spec.codec.autoencoder, spec.autoencoder
    if own.kind != "kl" or (own.latent_channels, own.factor) != (new.latent_channels, new.factor):
        given = f"{path} makes latents of {new.latent_channels} channels at 1/{new.factor}"
        raise ShapeMismatch(explain(given, f"this model's have {own.latent_channels} at 1/{own.factor}", "name another"))
    codec = _filled(spec, tensors, path)
    made = replace(model, codec=codec, spec=model.spec.model_copy(update={"codec": spec}))
    made.adapters.vae = Origins(path.resolve().parent.name if path.is_dir() else path.name, _hash(path))
    return made


def _filled(spec: CodecSpec, tensors: Mapping[str, Tensor], path: Path) -> Codec:
    with torch.device("meta"):
        empty = build_codec(spec)
    net = empty.autoencoder
    layout = "diffusers" if any(".up_blocks." in name for name in tensors) else "compvis"
    names = autoencoder_names(net.state_dict(), spec.autoencoder.model_dump(), layout)
    check_names(set(tensors), set(names.values()), str(path))
    assign(net, {ours: tensors[theirs] for ours, theirs in names.items()})
    shift, scale = torch.tensor(spec.latent.shift), torch.tensor(spec.latent.scale)
    codec = Codec(net, shift, scale, empty.factor, empty.channels)
    codec.eval().requires_grad_(False)
    return codec


def _file(path: Path) -> dict[str, Tensor]:
    """The tensors of an autoencoder alone, or of the one in a whole checkpoint."""
    read, _ = read_tensors(path)
    inside = {name.removeprefix(VAE): tensor for name, tensor in read.items() if name.startswith(VAE)}
    tensors = inside or {name: tensor for name, tensor in read.items() if not HARMLESS.match(name)}
    if not any(name.startswith("decoder.up") for name in tensors):
        raise UnknownFormat(explain(f"{path} holds no autoencoder", NEEDED, "'undiffuse inspect FILE' tells what it is"))
    return modern_names(tensors)


def _folder(path: Path) -> tuple[CodecSpec, dict[str, Tensor]]:
    if not (path / CONFIG).is_file():
        raise UnknownFormat(explain(f"{path} holds no {CONFIG}", NEEDED, "check the path"))
    config = config_of(path)
    if "latent_channels" not in config or "block_out_channels" not in config:
        raise UnknownFormat(explain(f"{path} is the folder of another net", NEEDED, "check the path"))
    return codec_spec(config), modern_names(weights_of(path, STEM))


def _hash(path: Path) -> str:
    if path.is_file():
        return whole_hash(path)
    whole = next((file for file in sorted(path.glob(f"{STEM}*")) if file.suffix in (".safetensors", ".bin")), None)
    if whole is None:
        raise CheckpointError(explain(f"{path} holds no weights", NEEDED, "fetch it again"))
    return whole_hash(whole)
