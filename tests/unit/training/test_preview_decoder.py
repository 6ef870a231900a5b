"""A tiny decoder is distilled from a model's own one and travels with the model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests.conftest import with_objective

from undiffuse.checkpoints.api import load_codec, load_model, save_model
from undiffuse.checkpoints.native import save_codec
from undiffuse.core.errors import CheckpointError, SpecError
from undiffuse.core.random import normal
from undiffuse.model.latent_diffusion import LatentDiffusion
from undiffuse.model.spec import CodecSpec, PreviewSpec
from undiffuse.networks.tiny_decoder import TinyDecoder
from undiffuse.training.objectives.preview import PreviewTraining
from undiffuse.training.prepare import prepare
from undiffuse.training.recipe import load_recipe
from undiffuse.training.run import resume, train
from undiffuse.training.start import settle

Photos = Callable[..., Path]
NET = PreviewSpec(width=8, blocks=1, patch=2)


@pytest.fixture
def recipe_file(autoencoder_recipe: Path, make_photos: Photos, tiny_folder: Path) -> Path:
    """A recipe of six steps that gives the tiny model a decoder for previews."""
    tables = f"""
[objective]
kind = "preview_decoder"
start = "{tiny_folder}"
crop = 8
net = {{ width = 8, blocks = 1, patch = 2 }}
"""
    return with_objective(autoencoder_recipe, make_photos(4), tables)


def test_the_model_that_comes_out_is_the_one_that_went_in_with_a_decoder(
    recipe_file: Path, tiny_model: LatentDiffusion, tmp_path: Path
) -> None:
    folder = train(settle(load_recipe(recipe_file, ["run.preview_every=6"])), tmp_path / "run")
    model = load_model(folder)

    assert model.spec.codec.preview == NET and isinstance(model.codec.previewer, TinyDecoder)
    assert model.parts().keys() == {"autoencoder", "denoiser", "conditioner", "preview"}
    assert model.fingerprint == tiny_model.fingerprint  # no picture depends on it
    z = normal((2, 4, 8, 8), "z")
    torch.testing.assert_close(model.codec.decode(z), tiny_model.codec.decode(z))
    assert model.codec.preview(z).shape == (2, 3, 16, 16)
    assert not torch.equal(model.codec.preview(z), model.codec.decode(z))
    assert (tmp_path / "run/previews/00000006.png").is_file()


def test_it_learns_to_draw_what_the_codec_draws(recipe_file: Path, tmp_path: Path) -> None:
    seen: list[float] = []
    changes = ["run.steps=60", "run.log_every=20", "run.save_every=60", "optimizer.rate=3e-3", "run.batch=8"]
    train(settle(load_recipe(recipe_file, changes)), tmp_path / "run", lambda step, steps, v: seen.append(v["preview/loss"]))
    assert seen[-1] < 0.7 * seen[0]


def test_only_the_tiny_decoder_learns(recipe_file: Path, tmp_path: Path) -> None:
    objective = prepare(settle(load_recipe(recipe_file)), tmp_path, torch.device("cpu"))
    assert isinstance(objective, PreviewTraining)
    loss, values = objective.loss("preview", objective.batch(0, range(2)), 0)
    loss.backward()
    assert values.keys() == {"loss", "l1", "l2", "gradient", "psnr"}
    assert all(p.grad is not None for p in objective.players["preview"].parameters())
    assert all(p.grad is None for p in objective.codec.autoencoder.parameters())


def test_a_stopped_run_goes_on_to_the_same_weights(recipe_file: Path, tmp_path: Path) -> None:
    level = ["optimizer.decay=none"]  # so that the first steps of a run do not depend on how many follow
    whole = train(settle(load_recipe(recipe_file, level)), tmp_path / "whole")
    train(settle(load_recipe(recipe_file, [*level, "run.steps=2"])), tmp_path / "parts")
    part = resume(tmp_path / "parts", recipe=settle(load_recipe(recipe_file, level)))
    ours, theirs = (load_codec(folder)[0].state_dict() for folder in (whole, part))
    assert any(name.startswith("previewer.") for name in ours)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_an_autoencoder_alone_can_have_one(recipe_file: Path, tiny_model: LatentDiffusion, tmp_path: Path) -> None:
    save_codec(tiny_model.codec.autoencoder, tiny_model.spec.codec, tmp_path / "codec")
    folder = train(settle(load_recipe(recipe_file, [f"objective.start={tmp_path / 'codec'}"])), tmp_path / "run")
    codec, spec = load_codec(folder)
    assert spec == tiny_model.spec.codec.model_copy(update={"preview": NET})
    assert codec.preview(normal((1, 4, 4, 4), "z")).shape == (1, 3, 8, 8)
    (folder / "preview.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"preview\.safetensors cannot be read"):
        load_codec(folder)


def test_another_one_takes_its_place(recipe_file: Path, tmp_path: Path) -> None:
    first = train(settle(load_recipe(recipe_file, ["run.steps=1"])), tmp_path / "first")
    changes = [f"objective.start={first}", "objective.net.width=12", "run.steps=1"]
    second = train(settle(load_recipe(recipe_file, changes)), tmp_path / "second")
    assert load_model(second).spec.codec.preview == NET.model_copy(update={"width": 12})


def test_a_model_in_half_precision_previews_too(recipe_file: Path, tmp_path: Path) -> None:
    model = load_model(train(settle(load_recipe(recipe_file, ["run.steps=1"])), tmp_path / "run"))
    z = normal((1, 4, 4, 4), "z")
    exact = model.codec.preview(z)
    cast = model.to(dtype=torch.bfloat16).codec.preview(z)
    assert cast.dtype == torch.float32 and (cast - exact).abs().max() < 0.1


def test_without_one_a_preview_is_what_is_decoded(tiny_model: LatentDiffusion, tmp_path: Path) -> None:
    z = normal((1, 4, 4, 4), "z")
    assert torch.equal(tiny_model.codec.preview(z), tiny_model.codec.decode(z))
    save_model(tiny_model, tmp_path / "model")
    assert "preview" not in (tmp_path / "model/spec.json").read_text()
    assert not (tmp_path / "model/preview.safetensors").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("objective.crop=7", r"objective\.crop = 7; a multiple of 2 up to data\.render\.size = 16"),
        ("objective.net.patch=3", r"preview\.patch = 3; the autoencoder's factor 2 must be that times a power of two"),
        ("objective.net.patch=4", r"preview\.patch = 4"),
    ],
)
def test_sizes_that_do_not_fit_are_told(change: str, message: str, recipe_file: Path, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=message):
        prepare(settle(load_recipe(recipe_file, [change])), tmp_path, torch.device("cpu"))


def test_pixels_need_none() -> None:
    with pytest.raises(SpecError, match="its latents are pictures already"):
        CodecSpec.parse({"autoencoder": {"kind": "identity"}, "preview": {}})
