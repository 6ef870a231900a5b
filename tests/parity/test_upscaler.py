"""Stable Diffusion's x4 upscaler, whole, against diffusers': the picture, both layouts, and what is told and refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from diffusers.pipelines.stable_diffusion import pipeline_stable_diffusion_upscale as theirs
from PIL import Image
from safetensors.torch import save_file

from undiffuse.checkpoints import detect, single_file
from undiffuse.checkpoints.api import load_model
from undiffuse.checkpoints.diffusers_export import write_diffusers_folder
from undiffuse.checkpoints.single_file import to_single_file
from undiffuse.cli.main import run
from undiffuse.core.errors import DataError, SpecError, UnknownFormat
from undiffuse.core.random import START, PictureNoise, normal
from undiffuse.generation.generator import Generator
from undiffuse.generation.output import read_request
from undiffuse.generation.request import Request
from undiffuse.model.latent_diffusion import LatentDiffusion

Pipelines = Callable[[str], tuple[Any, Path]]
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")

WIDTH, HEIGHT, STEPS, SEED = 16, 12, 4, 5
ALLOWED = 1e-3 + 0.5 / 255  # of the range of a pixel, and the rounding to 8 bits
SMALL = Image.fromarray(np.random.default_rng(2).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8))
PLAIN = {"solver": "ddim", "steps": STEPS, "guidance": 4.0, "seed": SEED}


def furthest(image: Image.Image, expected: np.ndarray) -> float:
    return float(np.abs(np.asarray(image, dtype=np.float64) / 255 - expected).max())


def drawn_by_theirs(pipe: Any, model: LatentDiffusion, noise_level: int, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """Their picture from the noise that ours starts from, with the noise that ours lays over the small picture."""
    start = model.schedule.at(model.schedule.t_max).sigma * PictureNoise(SEED, (0,), (4, HEIGHT, WIDTH))(START)
    hidden = normal((3, HEIGHT, WIDTH), "draw", SEED, 0, "small")[None]
    with monkeypatch.context() as patch:
        patch.setattr(theirs, "randn_tensor", lambda *_, **__: hidden)
        common = {"num_inference_steps": STEPS, "guidance_scale": 4.0, "negative_prompt": "blurry", "output_type": "np"}
        return pipe("a fox", image=SMALL, latents=start, noise_level=noise_level, **common).images[0]


@pytest.mark.parametrize("noise_level", [20, 0, 350])
def test_the_same_picture(noise_level: int, pipelines: Pipelines, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe, folder = pipelines("x4")
    model = load_model(folder)
    expected = drawn_by_theirs(pipe, model, noise_level, monkeypatch)
    assert expected.shape == (4 * HEIGHT, 4 * WIDTH, 3)

    draw = Generator(model, device="cpu", precision="fp32", tell=None)
    told = {} if noise_level == 20 else {"noise_level": noise_level}  # 20 is usual
    result = draw(Request("a fox", negative="blurry", small=SMALL, **told, **PLAIN))
    assert furthest(result.images[0], expected) <= ALLOWED
    assert result.request.noise_level == noise_level
    other = draw(result.request.replace(noise_level=abs(noise_level - 60)))
    assert furthest(other.images[0], expected) > ALLOWED


@pytest.mark.parametrize("eta", [0.0, 0.7])
def test_the_same_seed_gives_the_same_picture(eta: float, pipelines: Pipelines) -> None:
    pipe, folder = pipelines("x4")
    common = {"num_inference_steps": STEPS, "guidance_scale": 4.0, "output_type": "np", "noise_level": 100, "eta": eta}
    expected = pipe("a fox", image=SMALL, generator=torch.Generator().manual_seed(SEED), **common).images[0]

    draw = Generator(load_model(folder), device="cpu", precision="fp32", tell=None)
    asked = Request("a fox", small=SMALL, seeds="diffusers", noise_level=100, eta=eta, **PLAIN)
    assert furthest(draw(asked).images[0], expected) <= ALLOWED
    assert furthest(draw(asked.replace(seeds="native")).images[0], expected) > ALLOWED


def test_a_picture_does_not_depend_on_its_batch(pipelines: Pipelines) -> None:
    draw = Generator(load_model(pipelines("x4")[1]), device="cpu", precision="fp32", tell=None)
    together = draw(Request("a fox", small=SMALL, count=3, **PLAIN)).images
    alone = draw(Request("a fox", small=SMALL, **{**PLAIN, "seed": SEED + 2})).images[0]
    assert np.abs(np.asarray(together[2], dtype=int) - np.asarray(alone)).max() <= 1
    assert np.abs(np.asarray(together[0], dtype=int) - np.asarray(alone)).max() > 1


def test_a_folder_of_ours_draws_the_same_in_diffusers(
    pipelines: Pipelines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe, folder = pipelines("x4")
    model = load_model(folder)
    write_diffusers_folder(model, tmp_path / "ours")
    again = DiffusionPipeline.from_pretrained(tmp_path / "ours")
    assert type(again) is type(pipe) and again.config.max_noise_level == 350
    again.scheduler = pipe.scheduler
    again.set_progress_bar_config(disable=True)
    one, other = (drawn_by_theirs(one, model, 100, monkeypatch) for one in (pipe, again))
    assert np.abs(one - other).max() <= 1e-5


@pytest.fixture
def tiny_family(pipelines: Pipelines, monkeypatch: pytest.MonkeyPatch) -> LatentDiffusion:
    """A tiny model in the place of the upscaler; files with its widths are told to be of 2.x."""
    model = load_model(pipelines("x4")[1])
    monkeypatch.setattr(detect, "CONTEXTS", {32: "sd2"})
    monkeypatch.setattr(single_file, "family", lambda name: {"x4-upscaler": model.spec}[name])
    return model


def test_round_and_back_by_every_layout(tiny_family: LatentDiffusion, pipelines: Pipelines, tmp_path: Path) -> None:
    names = ("one.safetensors", "two", "three", "four.safetensors")
    places = [str(pipelines("x4")[1]), *(str(tmp_path / name) for name in names)]
    for number, layout in enumerate(("compvis", "native", "diffusers", "compvis")):
        assert run(["convert", places[number], "--to", layout, "--out", places[number + 1]]) == 0
    for place in places[1:]:
        again = load_model(place)
        assert again.spec == tiny_family.spec.model_copy(update={"name": again.spec.name})
        for part, net in tiny_family.parts().items():
            told = again.parts()[part].state_dict()
            assert all(torch.equal(told[name], tensor) for name, tensor in net.state_dict().items())


def test_a_single_file_is_known_for_what_it_is(
    tiny_family: LatentDiffusion, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x4-upscaler-ema.safetensors"
    buffers = {f"low_scale_model.{name}": torch.zeros(1000) for name in ("betas", "alphas_cumprod_prev", "sqrt_recipm1")}
    tensors = {name: tensor.contiguous() for name, tensor in to_single_file(tiny_family).items()}
    assert tensors["model.diffusion_model.label_emb.weight"].shape == (1000, 256)
    save_file({**tensors, **buffers}, path)
    assert load_model(path).spec.prediction == "v"
    assert run(["inspect", str(path)]) == 0
    assert "Stable Diffusion x4 upscaler, enlarges small pictures, 7 channels come in, predicts v" in capsys.readouterr().out


def test_what_cannot_be_drawn_is_refused(pipelines: Pipelines, tiny_model: LatentDiffusion) -> None:
    draw, other = (
        Generator(one, device="cpu", precision="fp32", tell=None) for one in (load_model(pipelines("x4")[1]), tiny_model)
    )
    with pytest.raises(SpecError, match=r"draws from a small picture; a small picture is needed; pass small, or --small FILE"):
        draw(Request("a fox", **PLAIN))
    with pytest.raises(DataError, match=r"noise_level = 351; this model learned 0 to 350; usual is 20"):
        draw(Request("a fox", small=SMALL, noise_level=351, **PLAIN))
    with pytest.raises(SpecError, match=r"noise_level = -1: "):
        Request("a fox", small=SMALL, noise_level=-1)
    for told in ({"seeds": "comfyui"}, {"seeds": "diffusers-gpu"}, {"seeds": "diffusers", "image": SMALL}):
        with pytest.raises(SpecError, match=r"with a model that draws from small pictures under noise.*take seeds = 'native'"):
            draw(Request("a fox", small=SMALL, **told, **PLAIN))
    with pytest.raises(SpecError, match=r"cannot read a noise level; it reads prompts and labels"):
        other(Request("a fox", noise_level=20))


def test_folders_of_other_upscalers_are_refused(pipelines: Pipelines, tmp_path: Path) -> None:
    _, folder = pipelines("x4")
    for part in folder.iterdir():
        (tmp_path / part.name).symlink_to(part)
    for name, change, told in (
        ("unet/config.json", {"num_class_embeds": 7}, "a table of 7 rows, and 1000 levels of noise"),
        ("unet/config.json", {"only_cross_attention": True}, "no self-attention at all"),
        ("model_index.json", {"low_res_scheduler": [None, None]}, "a table of 1000 rows, and no levels of noise"),
    ):
        before = (folder / name).read_text()
        copy = tmp_path / name.split("/")[0]
        copy.unlink()
        place = copy / "config.json" if name.startswith("unet") else copy
        place.parent.mkdir(exist_ok=True)
        place.write_text(json.dumps(json.loads(before) | change))
        with pytest.raises(UnknownFormat, match=told):
            load_model(tmp_path)
        place.unlink()
        if place != copy:
            copy.rmdir()
        copy.symlink_to(folder / copy.name)


def test_upscale_writes_what_verify_draws_again(
    pipelines: Pipelines, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, small = str(pipelines("x4")[1]), tmp_path / "small.png"
    SMALL.save(small)
    told = ["upscale", str(small), "a fox", "--model", folder, "--noise-level", "50", "--steps", "2", "--seed", "3"]
    assert run([*told, "--out", str(tmp_path), "--json"]) == 0
    (picture,) = tmp_path.glob("00000-*.png")
    with Image.open(picture) as image:
        assert image.size == (4 * WIDTH, 4 * HEIGHT) and "Noise level: 50" in image.info["parameters"]
    assert read_request(picture, small=SMALL).noise_level == 50
    assert json.loads(capsys.readouterr().out)["pictures"][0]["noise_level"] == 50
    assert run(["verify", str(picture), "--model", folder, "--small", str(small)]) == 0
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "other.png")
    assert run(["verify", str(picture), "--model", folder, "--small", str(tmp_path / "other.png")]) != 0
    traces = [str(tmp_path / f"{level}.trace") for level in (50, 60)]
    for trace, level in zip(traces, (50, 60), strict=True):
        drawn = ["trace", "record", "--from", str(picture), "--small", str(small), "--model", folder, "--out", trace]
        assert run([*drawn, "--noise-level", str(level)]) == 0
    capsys.readouterr()
    assert run(["trace", "diff", *traces]) == 8
    assert "noise level: 50 against 60" in capsys.readouterr().out
