"""Folders that diffusers wrote, read by us; folders that we wrote, read by diffusers; single files both ways."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline
from torch import Tensor
from torch.nn.functional import one_hot

from undiffuse.checkpoints.diffusers_export import write_diffusers_folder
from undiffuse.checkpoints.diffusers_folder import load_diffusers_folder
from undiffuse.checkpoints.single_file import fill, to_single_file
from undiffuse.core.conditioning import Conditioning
from undiffuse.core.errors import CheckpointError, MissingKeys, ShapeMismatch
from undiffuse.core.random import normal
from undiffuse.model.latent_diffusion import LatentDiffusion

Pipelines = Callable[[str], tuple[Any, Path]]
KINDS = ["sd1", "sd2-v", "xl", "inpaint", "depth", "x4"]
BESIDE = {"inpaint": 5, "depth": 1, "x4": 3}  # channels
PROMPT = "a fox, 3d render"
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    return float((ours.float() - theirs.float()).abs().max() / theirs.abs().max())


def states(model: LatentDiffusion) -> dict[str, Tensor]:
    return {f"{part}.{name}": t for part, net in model.parts().items() for name, t in net.state_dict().items()}


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_every_net_of_a_folder_answers_as_diffusers_does(kind: str, pipelines: Pipelines) -> None:
    pipe, folder = pipelines(kind)
    model = load_diffusers_folder(folder)
    encoded = pipe.encode_prompt([PROMPT], device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=False)
    cond = model.conditioner([{"caption": PROMPT}], (8, 8))
    assert cond.tokens is not None
    assert relative_error(cond.tokens, encoded[0]) <= 1e-5
    if kind == "xl":
        assert cond.vector is not None and relative_error(cond.vector[:, :24], encoded[2]) <= 1e-5

    z = normal((1, 4, 8, 8), kind)
    spatial = normal((1, BESIDE[kind], 8, 8), kind, "map") if kind in BESIDE else None
    numbers = torch.tensor([[16, 16, 0, 0, 16, 16]])  # a latent of 8 is a picture of 16
    added = {"added_cond_kwargs": {"text_embeds": encoded[2], "time_ids": numbers}} if kind == "xl" else {}
    vector = cond.vector
    if kind == "x4":
        vector, added = one_hot(torch.tensor([123]), 1000).float(), {"class_labels": torch.tensor([123])}
    t = torch.tensor([481.0])
    seen = z if spatial is None else torch.cat([z, spatial], dim=1)
    expected = pipe.unet(seen, t, encoded[0], **added).sample
    ours = model.denoiser.network(z, t, Conditioning(vector, cond.tokens, cond.token_mask, spatial))
    assert relative_error(ours, expected) <= 1e-5

    scale = pipe.vae.config.scaling_factor
    pixels = normal((1, 3, 16, 16), kind, "pixels")
    assert relative_error(model.codec.encode(pixels), pipe.vae.encode(pixels).latent_dist.mean * scale) <= 1e-5
    raw = model.codec.autoencoder.decode(z / scale)
    assert relative_error(raw, pipe.vae.decode(z / scale).sample) <= 1e-5
    assert model.spec.prediction == ("v" if kind in ("sd2-v", "x4") else "eps")


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_that_we_wrote_is_the_same_in_diffusers(kind: str, pipelines: Pipelines, tmp_path: Path) -> None:
    pipe, folder = pipelines(kind)
    write_diffusers_folder(load_diffusers_folder(folder), tmp_path / "ours")
    blind = {"depth_estimator": None, "feature_extractor": None} if kind == "depth" else {}
    theirs = DiffusionPipeline.from_pretrained(tmp_path / "ours", **blind)
    assert type(theirs) is type(pipe)
    for part in ("unet", "vae", "text_encoder", *(["text_encoder_2"] if kind == "xl" else [])):
        before, after = getattr(pipe, part).state_dict(), getattr(theirs, part).state_dict()
        assert before.keys() == after.keys()
        assert all(torch.equal(before[name], after[name]) for name in before)
    assert theirs.tokenizer(PROMPT, padding="max_length").input_ids == pipe.tokenizer(PROMPT, padding="max_length").input_ids
    assert theirs.scheduler.config.prediction_type == pipe.scheduler.config.prediction_type


@pytest.mark.parametrize("kind", KINDS)
def test_a_single_file_and_back_is_the_same_to_the_bit(kind: str, pipelines: Pipelines) -> None:
    model = load_diffusers_folder(pipelines(kind)[1])
    tensors = to_single_file(model)
    again = fill(model.spec, {**tensors, "betas": torch.zeros(3), "cond_stage_model.model.logit_scale": torch.zeros(())})
    before, after = states(model), states(again)
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


def test_nothing_is_loaded_in_part(pipelines: Pipelines) -> None:
    model = load_diffusers_folder(pipelines("sd1")[1])
    tensors = to_single_file(model)
    first = "model.diffusion_model.input_blocks.0.0.weight"
    with pytest.raises(MissingKeys, match=r"missing: input_blocks\.0\.0\.weight; the tensors of model\.diffusion_model"):
        fill(model.spec, {name: tensor for name, tensor in tensors.items() if name != first})
    with pytest.raises(MissingKeys, match=r"unknown: control_model\.x; a checkpoint holds"):
        fill(model.spec, {**tensors, "control_model.x": torch.zeros(1)})
    with pytest.raises(ShapeMismatch, match=r"first\.weight \(64, 9, 3, 3\) for \(64, 4, 3, 3\)"):
        fill(model.spec, {**tensors, first: torch.zeros(64, 9, 3, 3)})


def test_shards_and_old_names_are_read(pipelines: Pipelines, tmp_path: Path) -> None:
    pipe, folder = pipelines("sd1")
    pipe.unet.save_pretrained(tmp_path / "unet", max_shard_size="200KB")
    assert (tmp_path / "unet/diffusion_pytorch_model.safetensors.index.json").is_file()
    for part in ("vae", "text_encoder", "tokenizer", "scheduler", "model_index.json"):
        (tmp_path / part).symlink_to(folder / part)
    one, other = states(load_diffusers_folder(folder)), states(load_diffusers_folder(tmp_path))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_folder_without_weights_or_of_another_kind_is_refused(pipelines: Pipelines, tmp_path: Path) -> None:
    _, folder = pipelines("sd1")
    for part in ("vae", "text_encoder", "tokenizer", "scheduler", "model_index.json"):
        (tmp_path / part).symlink_to(folder / part)
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet/config.json").write_text((folder / "unet/config.json").read_text())
    with pytest.raises(CheckpointError, match=r"unet holds no weights; diffusion_pytorch_model\.safetensors"):
        load_diffusers_folder(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    (other / "model_index.json").write_text(json.dumps({"_class_name": "FluxPipeline", "vae": ["diffusers", "X"]}))
    with pytest.raises(CheckpointError, match="is a FluxPipeline without unet, scheduler, tokenizer"):
        load_diffusers_folder(other)
