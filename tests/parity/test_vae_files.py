"""An autoencoder in a file of its own, in every layout, in the place of a model's own."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL
from PIL import Image
from safetensors.torch import save_file

from undiffuse.checkpoints.api import load_model
from undiffuse.checkpoints.foreign_tensors import read_tensors
from undiffuse.checkpoints.single_file import VAE, to_single_file
from undiffuse.checkpoints.vae_files import with_vae
from undiffuse.core.errors import CheckpointError, MissingKeys, ShapeMismatch, UnknownFormat
from undiffuse.core.random import normal
from undiffuse.generation.generator import Generator
from undiffuse.generation.output import read_origin
from undiffuse.generation.request import Request
from undiffuse.model.latent_diffusion import LatentDiffusion

Pipelines = Callable[[str], tuple[Any, Path]]
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
OLD = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
Z = normal((1, 4, 8, 8), "vae files", "z")


@pytest.fixture
def other(pipelines: Pipelines) -> AutoencoderKL:
    """An autoencoder of the same sizes with other weights."""
    vae = AutoencoderKL(**{name: value for name, value in pipelines("sd1")[0].vae.config.items() if not name.startswith("_")})
    with torch.no_grad():
        for name, weight in vae.named_parameters():
            weight.add_(0.05 * normal(tuple(weight.shape), "other vae", name))
    return vae.eval()


def compvis(model: LatentDiffusion, other: AutoencoderKL, folder: Path, leading: str) -> Path:
    """The other autoencoder as CompVis lays it out, written by way of a diffusers folder."""
    other.save_pretrained(folder / "vae")
    state = to_single_file(with_vae(model, folder / "vae"))
    path = folder / "other.safetensors"
    mine = {leading + name.removeprefix(VAE): tensor for name, tensor in state.items() if name.startswith(VAE)}
    save_file({**mine, "loss.logvar": torch.zeros(1)} if leading else mine, path)
    return path


@pytest.mark.parametrize("layout", ["folder", "old folder", "file", "compvis", "compvis with its prefix", "pickle"])
@torch.no_grad()
def test_pictures_are_the_other_autoencoders(layout: str, pipelines: Pipelines, other: AutoencoderKL, tmp_path: Path) -> None:
    source = pipelines("sd1")[1]
    path = tmp_path / "vae"
    if layout.startswith("compvis"):
        path = compvis(load_model(source), other, tmp_path, VAE if "prefix" in layout else "")
    else:
        other.save_pretrained(path)
    whole = path / "diffusion_pytorch_model.safetensors"
    if layout == "old folder":
        tensors = read_tensors(whole)[0]
        for new, old in OLD.items():
            tensors = {name.replace(f".{new}.", f".{old}."): tensor for name, tensor in tensors.items()}
        save_file(tensors, whole)
    elif layout == "file":
        path = whole
    elif layout == "pickle":
        path = tmp_path / "other.vae.pt"
        torch.save({"state_dict": read_tensors(whole)[0]}, path)
    model = load_model(source, vae=path)
    expected = other.decode(Z / model.spec.codec.latent.scale[0]).sample.clamp(-1, 1)
    torch.testing.assert_close(model.codec.decode(Z), expected, rtol=1e-5, atol=1e-5)
    pixels = normal((1, 3, 16, 16), "vae files", "pixels")
    wanted = other.encode(pixels).latent_dist.mean * model.spec.codec.latent.scale[0]
    torch.testing.assert_close(model.codec.encode(pixels), wanted, rtol=1e-5, atol=1e-5)


def test_a_folder_tells_the_scale_of_its_latents(pipelines: Pipelines, other: AutoencoderKL, tmp_path: Path) -> None:
    other.register_to_config(scaling_factor=0.5)
    other.save_pretrained(tmp_path / "vae")
    assert load_model(pipelines("sd1")[1], vae=tmp_path / "vae").spec.codec.latent.scale == (0.5,)


def test_pictures_tell_of_it(pipelines: Pipelines, other: AutoencoderKL, tmp_path: Path) -> None:
    other.save_pretrained(tmp_path / "vae")
    model = load_model(pipelines("sd1")[1], vae=tmp_path / "vae")
    own = load_model(pipelines("sd1")[1])
    assert model.fingerprint != own.fingerprint
    image = Generator(model, tell=None)(Request("a fox", steps=1, seed=1)).images[0]
    image.save(tmp_path / "fox.png")
    origin = read_origin(tmp_path / "fox.png")
    assert origin is not None
    (told,) = origin.additions
    assert (told.kind, told.name) == ("vae", tmp_path.name)
    with Image.open(tmp_path / "fox.png") as drawn:
        assert f"VAE hash: {told.hash[:10]}" in drawn.info["parameters"]


def test_what_does_not_fit_is_refused(pipelines: Pipelines, other: AutoencoderKL, tmp_path: Path) -> None:
    model = load_model(pipelines("sd1")[1])
    other.save_pretrained(tmp_path / "vae")
    whole = tmp_path / "vae" / "diffusion_pytorch_model.safetensors"
    tensors = read_tensors(whole)[0]
    tensors.pop("decoder.conv_out.bias")
    save_file(tensors, whole)
    with pytest.raises(MissingKeys, match=r"decoder\.conv_out\.bias"):
        with_vae(model, tmp_path / "vae")
    with pytest.raises(UnknownFormat, match="no autoencoder"):
        with_vae(model, pipelines("sd1")[1] / "unet" / "diffusion_pytorch_model.safetensors")
    with pytest.raises(CheckpointError, match="is not there"):
        with_vae(model, tmp_path / "nowhere.safetensors")
    shutil.rmtree(tmp_path / "vae")
    AutoencoderKL(latent_channels=8, norm_num_groups=4, block_out_channels=(8,)).save_pretrained(tmp_path / "vae")
    with pytest.raises(ShapeMismatch, match="8 channels at 1/1"):
        with_vae(model, tmp_path / "vae")


def test_a_model_of_another_make_keeps_its_own(pipelines: Pipelines, other: AutoencoderKL, tmp_path: Path) -> None:
    other.save_pretrained(tmp_path / "vae")
    with pytest.raises(ShapeMismatch):
        load_model(vae=tmp_path / "vae")
    model = load_model(pipelines("sd1")[1])
    assert replace(model).adapters.vae is None
