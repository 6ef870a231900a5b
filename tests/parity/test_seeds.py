"""The same seed as in diffusers: whole pipelines with a generator of theirs give the picture that ours gives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

from undiffuse.checkpoints.api import load_model
from undiffuse.generation.generator import Generator
from undiffuse.generation.request import Request

Pipelines = Callable[[str], tuple[Any, Path]]
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")

SIDE, STEPS, SEED = 32, 4, 5
ALLOWED = 5e-5 + 0.5 / 255  # of the range of a pixel, and the rounding to 8 bits
FAR = 10 * ALLOWED
COMMON = {"num_inference_steps": STEPS, "guidance_scale": 4.0, "output_type": "np"}
SIZED = {**COMMON, "height": SIDE, "width": SIDE}
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
SPACED = {**BETAS, "timestep_spacing": "trailing"}
SCHEDULERS: dict[str, tuple[str, dict[str, Any]]] = {
    "euler_ancestral": ("EulerAncestralDiscreteScheduler", SPACED),
    "ddim": ("DDIMScheduler", {**SPACED, "clip_sample": False, "set_alpha_to_one": True}),
    "ddpm": ("DDPMScheduler", {**SPACED, "clip_sample": False}),
    "dpm_2_ancestral": ("KDPM2AncestralDiscreteScheduler", SPACED),
    "dpmpp_2m": ("DPMSolverMultistepScheduler", {**SPACED, "final_sigmas_type": "zero"}),
    "dpmpp_2m_sde": (
        "DPMSolverMultistepScheduler",
        {**SPACED, "final_sigmas_type": "zero", "algorithm_type": "sde-dpmsolver++", "euler_at_final": True},
    ),
}


def scheduler(solver: str) -> Any:
    name, options = SCHEDULERS[solver]
    return getattr(diffusers, name)(**options)


def generator(seed: int = SEED) -> torch.Generator:
    return torch.Generator("cpu").manual_seed(seed)


def ours(folder: Path, **told: Any) -> list[np.ndarray]:
    draw = Generator(load_model(folder), device="cpu", precision="fp32", tell=None)
    asked = {"steps": STEPS, "guidance": 4.0, "seed": SEED, "seeds": "diffusers", "width": SIDE, "height": SIDE, **told}
    return [np.asarray(image, dtype=np.float64) / 255 for image in draw(Request("a fox", **asked)).images]


def furthest(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found - expected).max())


def picture() -> Image.Image:
    """A photograph, nearly: smooth, with a little grain."""
    rng = np.random.default_rng(1)
    ramp = np.linspace(0, 160, SIDE)[:, None, None] * np.array([1.0, 0.6, 0.3])
    return Image.fromarray((ramp + rng.integers(0, 90, (SIDE, SIDE, 3))).astype(np.uint8))


def hole() -> Image.Image:
    mask = Image.new("L", (SIDE, SIDE))
    mask.paste(255, (8, 4, 24, 28))
    return mask


@pytest.mark.parametrize("solver", SCHEDULERS)
def test_text_to_picture(solver: str, pipelines: Pipelines, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe, folder = pipelines("sd1")
    monkeypatch.setattr(pipe, "scheduler", scheduler(solver))
    eta = {"eta": 0.7} if solver == "ddim" else {}
    expected = pipe("a fox", generator=generator(), **SIZED, **eta).images[0]

    [found] = ours(folder, solver=solver, **eta)
    assert furthest(found, expected) <= ALLOWED
    assert furthest(ours(folder, solver=solver, seed=SEED + 1, **eta)[0], expected) > FAR


def test_the_larger_family(pipelines: Pipelines, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe, folder = pipelines("xl")
    monkeypatch.setattr(pipe, "scheduler", scheduler("euler_ancestral"))
    expected = pipe("a fox", generator=generator(), **SIZED).images[0]

    assert furthest(ours(folder, solver="euler_ancestral")[0], expected) <= ALLOWED


def test_each_picture_of_a_count_has_a_generator_of_its_own(pipelines: Pipelines, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe, folder = pipelines("sd1")
    monkeypatch.setattr(pipe, "scheduler", scheduler("euler_ancestral"))
    generators = [generator(SEED + k) for k in range(3)]
    expected = pipe("a fox", generator=generators, num_images_per_prompt=3, **SIZED).images

    found = ours(folder, solver="euler_ancestral", count=3)
    assert max(furthest(a, b) for a, b in zip(found, expected, strict=True)) <= ALLOWED


@pytest.mark.parametrize(("solver", "strength"), [("euler_ancestral", 0.6), ("dpmpp_2m", 0.9), ("ddim", 1.0)])
def test_picture_to_picture(solver: str, strength: float, pipelines: Pipelines) -> None:
    text, folder = pipelines("sd1")
    parts = {**text.components, "scheduler": scheduler(solver)}
    pipe: Any = diffusers.StableDiffusionImg2ImgPipeline(**parts, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    expected = pipe("a fox", image=picture(), strength=strength, generator=generator(), **COMMON).images[0]

    [found] = ours(folder, solver=solver, image=picture(), strength=strength)
    assert furthest(found, expected) <= ALLOWED


@pytest.mark.parametrize("strength", [0.8, 1.0])
@pytest.mark.parametrize("solver", ["euler_ancestral", "dpmpp_2m"])
@pytest.mark.parametrize("kind", ["sd1", "inpaint"])
def test_filling_a_hole(kind: str, solver: str, strength: float, pipelines: Pipelines) -> None:
    made, folder = pipelines(kind)
    parts = {**made.components, "scheduler": scheduler(solver)}
    pipe: Any = diffusers.StableDiffusionInpaintPipeline(**parts, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    given = {"image": picture(), "mask_image": hole(), "strength": strength}
    expected = pipe("a fox", generator=generator(), **given, **SIZED).images[0]

    [found] = ours(folder, solver=solver, image=picture(), mask=hole(), strength=strength)
    inside = np.asarray(hole()) == 255
    assert furthest(found[inside], expected[inside]) <= ALLOWED
