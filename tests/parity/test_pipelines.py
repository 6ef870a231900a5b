"""Whole pipelines against diffusers': the same files, prompt and noise give the same picture."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from undiffuse.checkpoints.api import load_model
from undiffuse.core.random import START, PictureNoise
from undiffuse.generation.generator import Generator
from undiffuse.generation.request import Request
from undiffuse.model.latent_diffusion import LatentDiffusion

Pipelines = Callable[[str], tuple[Any, Path]]
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")

SIDE, STEPS, SEED = 32, 4, 5
ALLOWED = 1e-3 + 0.5 / 255  # of the range of a pixel, and the rounding to 8 bits


def starting_noise(model: LatentDiffusion) -> Tensor:
    """What our drawing of this seed starts from."""
    side = SIDE // model.codec.factor
    return model.schedule.at(model.schedule.t_max).sigma * PictureNoise(SEED, (0,), (4, side, side))(START)


def furthest(image: Image.Image, theirs: np.ndarray) -> float:
    return float(np.abs(np.asarray(image, dtype=np.float64) / 255 - theirs).max())


@pytest.mark.parametrize("kind", ["sd1", "sd2-v", "xl"])
def test_text_to_picture(kind: str, pipelines: Pipelines) -> None:
    pipe, folder = pipelines(kind)
    model = load_model(folder)
    common = {"num_inference_steps": STEPS, "guidance_scale": 4.0, "height": SIDE, "width": SIDE, "output_type": "np"}
    expected = pipe("a fox, 3d render", latents=starting_noise(model), **common).images[0]

    draw = Generator(model, device="cpu", precision="fp32", tell=None)
    asked = Request("a fox, 3d render", steps=STEPS, guidance=4.0, solver="ddim", seed=SEED, width=SIDE, height=SIDE)
    assert furthest(draw(asked).images[0], expected) <= ALLOWED


def test_negative_prompts(pipelines: Pipelines) -> None:
    pipe, folder = pipelines("sd1")
    model = load_model(folder)
    common = {"num_inference_steps": STEPS, "guidance_scale": 4.0, "height": SIDE, "width": SIDE, "output_type": "np"}
    expected = pipe("a fox", negative_prompt="blurry", latents=starting_noise(model), **common).images[0]

    draw = Generator(model, device="cpu", precision="fp32", tell=None)
    asked = Request("a fox", negative="blurry", steps=STEPS, guidance=4.0, solver="ddim", seed=SEED, width=SIDE, height=SIDE)
    assert furthest(draw(asked).images[0], expected) <= ALLOWED
    assert furthest(draw(asked.replace(negative="")).images[0], expected) > ALLOWED


@pytest.mark.parametrize(("at", "words", "score"), [(0.6, {}, {}), (0.5, {"negative_prompt": "red"}, {"aesthetic_score": 9.0})])
def test_a_refiner_that_takes_over(
    at: float, words: dict[str, str], score: dict[str, float], pipelines: Pipelines, monkeypatch: pytest.MonkeyPatch
) -> None:
    (pipe, folder), (refine, refiner) = pipelines("xl"), pipelines("refiner")
    monkeypatch.setattr(refine, "vae", pipe.vae)  # one decoder for both, as XL has
    model = load_model(folder)
    common = {"num_inference_steps": 5, "guidance_scale": 4.0, **words}
    first = {"latents": starting_noise(model), "height": SIDE, "width": SIDE, "output_type": "latent"}
    latent = pipe("a fox", **common, **first, denoising_end=at).images
    expected = refine("a fox", image=latent, denoising_start=at, output_type="np", **common, **score).images[0]

    draw = Generator(model, refiner=load_model(refiner), device="cpu", precision="fp32", tell=None)
    told = {"negative": words.get("negative_prompt", ""), "steps": 5, "guidance": 4.0, "solver": "ddim", "seed": SEED}
    context = {"aesthetic": score["aesthetic_score"]} if score else {}
    asked = Request("a fox", refine_at=at, width=SIDE, height=SIDE, context=context, **told)
    assert furthest(draw(asked).images[0], expected) <= ALLOWED
    for other in (asked.replace(refine_at=None, context={}), asked.replace(refine_at=at - 0.2)):
        assert furthest(draw(other).images[0], expected) > ALLOWED


def test_inpainting_with_nine_channels(pipelines: Pipelines, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe, folder = pipelines("inpaint")
    monkeypatch.setattr(pipe, "vae", deepcopy(pipe.vae))
    with torch.no_grad():  # theirs draws the latent of what is around the hole at random; ours takes its mean
        pipe.vae.quant_conv.weight[4:] = 0
        pipe.vae.quant_conv.bias[4:] = -30
    model = load_model(folder)
    photo = Image.fromarray(np.random.default_rng(1).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8))
    mask = Image.new("L", (SIDE, SIDE))
    mask.paste(255, (8, 4, 24, 28))
    common = {"num_inference_steps": STEPS, "guidance_scale": 4.0, "height": SIDE, "width": SIDE, "output_type": "np"}
    noise = starting_noise(model)
    expected = pipe("a fox", image=photo, mask_image=mask, strength=1.0, latents=noise, **common).images[0]

    draw = Generator(model, device="cpu", precision="fp32", tell=None)
    told = {"solver": "ddim", "seed": SEED, "width": SIDE, "height": SIDE, "strength": 1.0}
    ours = draw(Request("a fox", image=photo, mask=mask, steps=STEPS, guidance=4.0, **told)).images[0]
    inside = np.asarray(mask) == 255
    difference = np.abs(np.asarray(ours, dtype=np.float64) / 255 - expected)[inside]
    assert difference.max() <= ALLOWED
    assert (np.asarray(ours)[~inside] == np.asarray(photo)[~inside]).all()


def test_a_pipeline_by_its_id_on_the_hub(pipelines: Pipelines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, folder = pipelines("sd1")
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "models--somebody--tiny-sd"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    (repository / "snapshots").mkdir()
    (repository / "snapshots" / commit).symlink_to(folder)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)

    fetched, told = load_model("somebody/tiny-sd"), load_model(folder)

    assert fetched.spec == told.spec.model_copy(update={"name": "tiny-sd"})
    for name, weight in told.denoiser.state_dict().items():
        assert torch.equal(fetched.denoiser.state_dict()[name], weight), name
