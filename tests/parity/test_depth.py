"""Stable Diffusion 2's depth model, whole, against diffusers': with a picture to start from and without, by file and folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionDepth2ImgPipeline
from diffusers.pipelines.stable_diffusion import pipeline_stable_diffusion_depth2img as theirs
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from undiffuse.checkpoints import detect, single_file
from undiffuse.checkpoints.api import load_model
from undiffuse.checkpoints.diffusers_export import write_diffusers_folder
from undiffuse.checkpoints.single_file import to_single_file
from undiffuse.cli.main import run
from undiffuse.core.errors import DataError, SpecError
from undiffuse.core.random import START, PictureNoise
from undiffuse.explain.contrasts import otherwise
from undiffuse.generation.generator import Generator
from undiffuse.generation.given import given_by, window_of
from undiffuse.generation.output import read_request
from undiffuse.generation.request import Request
from undiffuse.generation.sample import settle
from undiffuse.model.latent_diffusion import LatentDiffusion

Pipelines = Callable[[str], tuple[Any, Path]]
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")

SIDE, STEPS, SEED = 32, 4, 5
ALLOWED = 1e-3 + 0.5 / 255  # of the range of a pixel, and the rounding to 8 bits
NUMBERS = np.random.default_rng(2)
LEVELS = NUMBERS.integers(0, 2**16, (24, 24), dtype=np.uint16)
PHOTO = Image.fromarray(NUMBERS.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8))
PLAIN = {"solver": "ddim", "steps": STEPS, "guidance": 4.0, "seed": SEED, "width": SIDE, "height": SIDE}


def furthest(image: Image.Image, expected: np.ndarray) -> float:
    return float(np.abs(np.asarray(image, dtype=np.float64) / 255 - expected).max())


def noise_of(model: LatentDiffusion) -> Tensor:
    return PictureNoise(SEED, (0,), (4, SIDE // 2, SIDE // 2))(START)


def drawn_by_theirs(pipe: Any, model: LatentDiffusion, strength: float | None, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """Their picture from the noise that ours starts from; from noise alone where strength is None."""
    with monkeypatch.context() as patch:
        patch.setattr(pipe, "vae", deepcopy(pipe.vae))
        with torch.no_grad():  # theirs draws the latent of the picture at random; ours takes its mean
            pipe.vae.quant_conv.weight[4:] = 0
            pipe.vae.quant_conv.bias[4:] = -30
        patch.setattr(theirs, "randn_tensor", lambda *_, **__: noise_of(model))
        if strength is None:
            start = model.schedule.at(model.schedule.t_max).sigma * noise_of(model)
            patch.setattr(pipe, "prepare_latents", lambda *_, **__: start)
        depth = torch.from_numpy(LEVELS.astype(np.float32))[None]
        told = {"image": PHOTO, "depth_map": depth, "strength": strength or 1.0, "negative_prompt": "blurry"}
        return pipe("a fox", num_inference_steps=STEPS, guidance_scale=4.0, output_type="np", **told).images[0]


@pytest.mark.parametrize("strength", [None, 1.0, 0.5])
def test_the_same_picture(strength: float | None, pipelines: Pipelines, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe, folder = pipelines("depth")
    model = load_model(folder)
    expected = drawn_by_theirs(pipe, model, strength, monkeypatch)

    draw = Generator(model, device="cpu", precision="fp32", tell=None)
    start = {} if strength is None else {"image": PHOTO, "strength": strength}
    asked = Request("a fox", negative="blurry", depth=LEVELS, **start, **PLAIN)
    assert furthest(draw(asked).images[0], expected) <= ALLOWED
    assert furthest(draw(asked.replace(depth=LEVELS[::-1])).images[0], expected) > ALLOWED


def test_the_same_seed_gives_the_same_picture(pipelines: Pipelines) -> None:
    pipe, folder = pipelines("depth")
    told = {"image": PHOTO, "depth_map": torch.from_numpy(LEVELS.astype(np.float32))[None], "strength": 0.75}
    common = {"num_inference_steps": STEPS, "guidance_scale": 4.0, "output_type": "np"}
    expected = pipe("a fox", generator=torch.Generator().manual_seed(SEED), **told, **common).images[0]

    draw = Generator(load_model(folder), device="cpu", precision="fp32", tell=None)
    asked = Request("a fox", depth=LEVELS, image=PHOTO, strength=0.75, seeds="diffusers", **PLAIN)
    assert furthest(draw(asked).images[0], expected) <= ALLOWED


def test_a_folder_of_ours_draws_the_same_in_diffusers(
    pipelines: Pipelines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe, folder = pipelines("depth")
    model = load_model(folder)
    write_diffusers_folder(model, tmp_path / "ours")
    again = StableDiffusionDepth2ImgPipeline.from_pretrained(tmp_path / "ours", depth_estimator=None, feature_extractor=None)
    again.scheduler = pipe.scheduler
    again.set_progress_bar_config(disable=True)
    one, other = (drawn_by_theirs(one, model, 0.5, monkeypatch) for one in (pipe, again))
    assert np.abs(one - other).max() <= 1e-5


@pytest.fixture
def tiny_family(pipelines: Pipelines, monkeypatch: pytest.MonkeyPatch) -> LatentDiffusion:
    """A tiny model in the place of the depth model; files with its widths are told to be of 2.x."""
    model = load_model(pipelines("depth")[1])
    monkeypatch.setattr(detect, "CONTEXTS", {32: "sd2"})
    monkeypatch.setattr(single_file, "family", lambda name: {"sd2-depth": model.spec}[name])
    return model


def test_round_and_back_by_every_layout(tiny_family: LatentDiffusion, pipelines: Pipelines, tmp_path: Path) -> None:
    places = [
        str(pipelines("depth")[1]),
        *(str(tmp_path / name) for name in ("one.safetensors", "two", "three", "four.safetensors")),
    ]
    for number, layout in enumerate(("compvis", "native", "diffusers", "compvis")):
        assert run(["convert", places[number], "--to", layout, "--out", places[number + 1]]) == 0
    for place in places[1:]:
        again = load_model(place)
        assert again.spec.prediction == "eps" and [part.kind for part in again.spec.conditioners] == ["clip", "depth"]
        for part, net in tiny_family.parts().items():
            told = again.parts()[part].state_dict()
            assert all(torch.equal(told[name], tensor) for name, tensor in net.state_dict().items())
    assert (tmp_path / "one.safetensors").read_bytes()[-4096:] == (tmp_path / "four.safetensors").read_bytes()[-4096:]


def test_the_depth_net_of_a_file_is_left_aside_and_told(
    tiny_family: LatentDiffusion, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "512-depth-ema.safetensors"
    midas = {"depth_model.model.pretrained.act_postprocess1.0.weight": torch.zeros(3)}
    save_file({**{name: t.contiguous() for name, t in to_single_file(tiny_family).items()}, **midas}, path)
    assert load_model(path).spec.name == "512-depth-ema"
    assert run(["inspect", str(path)]) == 0
    told = capsys.readouterr().out
    assert "Stable Diffusion 2.x, draws from depth maps, 5 channels come in, predicts eps" in told
    assert "depth_model: not read, give a depth map" in told
    assert run(["inspect", str(path), "--json"]) == 0
    file = json.loads(capsys.readouterr().out)["files"][path.name]
    assert (file["family"], file["channels"], file["aside"]) == ("sd2-depth", 5, ["depth_model: not read, give a depth map"])


def test_a_folder_tells_what_of_it_is_not_read(
    pipelines: Pipelines, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, folder = pipelines("depth")
    for part in folder.iterdir():
        (tmp_path / part.name).symlink_to(part)
    (tmp_path / "model_index.json").unlink()
    index = json.loads((folder / "model_index.json").read_text())
    parts = {
        "depth_estimator": ["transformers", "DPTForDepthEstimation"],
        "feature_extractor": ["transformers", "DPTImageProcessor"],
    }
    (tmp_path / "model_index.json").write_text(json.dumps(index | parts))
    assert load_model(tmp_path).conditioner.fields[-1] == "depth"
    capsys.readouterr()
    assert run(["inspect", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert "StableDiffusionDepth2ImgPipeline of diffusers" in told and "5 channels come in" in told
    assert "depth_estimator: not read, give a depth map" in told and "feature_extractor: not read" in told


def test_what_cannot_be_drawn_is_refused(pipelines: Pipelines, tiny_model: LatentDiffusion) -> None:
    model = load_model(pipelines("depth")[1])
    draw, other = (Generator(one, device="cpu", precision="fp32", tell=None) for one in (model, tiny_model))
    with pytest.raises(SpecError, match=r"draws from a depth map; a depth map is needed; pass depth, or --depth FILE"):
        draw(Request("a fox", **PLAIN))
    with pytest.raises(SpecError, match=r"this model cannot read the depth map; it reads prompts and labels"):
        other(Request("a fox", depth=LEVELS))
    with pytest.raises(SpecError, match=r"levels that are no numbers; all must be finite"):
        Request(depth=np.full((4, 4), np.nan))
    with pytest.raises(DataError, match="a depth that is no picture"):
        draw(Request("a fox", context={"depth": "far"}, **PLAIN))


def test_the_command_line_and_the_picture_tell_the_map(
    pipelines: Pipelines, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, depth = str(pipelines("depth")[1]), tmp_path / "depth.png"
    Image.fromarray(LEVELS).save(depth)
    Image.fromarray(LEVELS ^ np.uint16(1)).save(tmp_path / "other.png")  # 8 bits of each are the same
    drawing = ["generate", "a fox", "--model", folder, "--steps", "2", "--size", str(SIDE), "--seed", "3"]
    assert run([*drawing, "--depth", str(depth), "--out", str(tmp_path)]) == 0
    (picture,) = tmp_path.glob("00000-*.png")
    assert np.array_equal(np.asarray(read_request(picture, depth=Image.open(depth)).depth), LEVELS)
    again = ["verify", str(picture), "--model", folder]
    assert run([*again, "--depth", str(depth)]) == 0
    capsys.readouterr()
    assert run(again) != 0
    assert "was drawn with its depth map; pictures are not stored in it; pass it along (--depth on" in capsys.readouterr().err
    assert run([*again, "--depth", str(tmp_path / "other.png")]) != 0
    assert "another picture than this one for 'depth'" in capsys.readouterr().err


def test_a_map_is_cut_as_its_picture_is(pipelines: Pipelines) -> None:
    model = load_model(pipelines("depth")[1])
    wide = np.concatenate([np.zeros((24, 12), np.uint16), LEVELS, np.zeros((24, 12), np.uint16)], axis=1)
    whole, middle = (given_by(settle(Request(depth=levels, **PLAIN), model), model)["depth"] for levels in (wide, LEVELS))
    assert torch.equal(whole, middle) and middle.shape == (1, 24, 24)

    photo, mask = Image.new("RGB", (128, 96)), Image.new("L", (128, 96))
    mask.paste(255, (70, 30, 90, 50))
    asked = settle(Request(image=photo, mask=mask, depth=np.kron(LEVELS, np.ones((4, 4), np.uint16)), **PLAIN), model)
    window = window_of(asked, model)
    assert window is not None
    left, top, right, bottom = window.box
    expected = torch.from_numpy(np.kron(LEVELS, np.ones((4, 4)))[top:bottom, round(left * 0.75) : round(right * 0.75)])
    assert torch.equal(given_by(asked, model)["depth"][0], expected.float())


def test_numbers_of_any_kind_make_a_map_and_a_mirror_keeps_its_bits() -> None:
    floating = Request(depth=np.linspace(-3, 5, 12).reshape(3, 4)).depth
    assert floating is not None and np.asarray(floating).tolist()[0][0] == 0 and np.asarray(floating).max() == 2**16 - 1
    eight = Image.fromarray(LEVELS.astype(np.uint8))
    assert Request(depth=eight).depth == Request(depth=eight.convert("RGB")).depth == eight
    again = Request.from_json(Request("a fox", depth=LEVELS).to_json())
    assert np.array_equal(np.asarray(again.depth), LEVELS)
    mirrored = otherwise(Request(depth=LEVELS), None)  # type: ignore[arg-type]
    assert mirrored is not None and np.array_equal(np.asarray(mirrored.depth), LEVELS[:, ::-1])
