"""Two passes: the first is the picture that was asked for, the second goes on from it at a larger size."""

from __future__ import annotations

import dataclasses
import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from undiffuse.core.errors import SpecError
from undiffuse.core.pictures import to_images, to_pixels
from undiffuse.core.random import START, PictureNoise
from undiffuse.diffusion.grid import make_grid
from undiffuse.diffusion.schedule import ScheduleSpec, build_schedule
from undiffuse.explain.recording import record
from undiffuse.generation.generator import Generator
from undiffuse.generation.hires import Hires
from undiffuse.generation.request import Request
from undiffuse.generation.sample import SECOND, sample, settle, steps_of
from undiffuse.model.denoiser import Denoiser
from undiffuse.model.latent_diffusion import LatentDiffusion

FOX = Request("a fox", seed=7, steps=4, solver="ddim", guidance=1)
TWICE = FOX.replace(hires=Hires(scale=1.5, strength=0.6, steps=3))


@pytest.fixture(scope="module")
def draw(tiny_model: LatentDiffusion) -> Generator:
    return Generator(tiny_model, device="cpu", precision="fp32", tell=None)


def latents(request: Request, model: LatentDiffusion) -> list[Tensor]:
    """x after every step of a request for one picture."""
    return [step.x for step in sample([settle(request, model)], model)]


def levels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


@torch.no_grad()
def second_pass(z: Tensor, request: Request, model: LatentDiffusion, noise: Tensor | None = None) -> Tensor:
    """DDIM from these enlarged latents, written out; with this noise, else ours."""
    told = request.hires
    assert told is not None and told.steps is not None
    grid = make_grid(model.schedule, int(told.steps / told.strength)).levels[-told.steps - 1 :]
    cond = model.conditioner([{"caption": request.prompt}], (z.shape[2], z.shape[3]))
    noise = PictureNoise(request.seed, (0,), z.shape[1:])(SECOND + START) if noise is None else noise
    x = grid[0].alpha * z + grid[0].sigma * noise
    for now, nxt in pairwise(grid):
        x0 = model.denoiser(x, now, cond)
        x = nxt.alpha * x0 + nxt.sigma * (x - now.alpha * x0) / now.sigma
    return x


def test_the_second_pass_goes_on_from_the_enlarged_latent(tiny_model: LatentDiffusion) -> None:
    once, twice = latents(FOX, tiny_model), latents(TWICE, tiny_model)

    assert all(torch.equal(one, other) for one, other in zip(once[:-1], twice, strict=False))
    assert len(twice) == len(once) + 3 == steps_of(TWICE, tiny_model)
    larger = torch.nn.functional.interpolate(once[-1], scale_factor=1.5, mode="bilinear")
    assert torch.allclose(twice[-1], second_pass(larger, TWICE, tiny_model), atol=1e-5)


def test_the_web_ui_draws_anew_from_the_same_seed(tiny_model: LatentDiffusion) -> None:
    request = TWICE.replace(seeds="webui-cpu")
    larger = torch.nn.functional.interpolate(
        latents(request.replace(hires=None), tiny_model)[-1], scale_factor=1.5, mode="bilinear"
    )
    noise = torch.randn(larger.shape, generator=torch.Generator().manual_seed(request.seed))

    assert torch.allclose(latents(request, tiny_model)[-1], second_pass(larger, request, tiny_model, noise), atol=1e-5)


@pytest.mark.parametrize("seeds", ["diffusers", "comfyui"])
def test_programs_without_a_second_pass_have_no_seeds_for_it(seeds: str) -> None:
    with pytest.raises(SpecError, match="hires with seeds"):
        TWICE.replace(seeds=seeds)


@pytest.mark.parametrize("solver", ["dpmpp_2m_sde", "dpm_2", "dpmpp_3m_sde", "euler_ancestral"])
def test_every_solver_takes_the_seeds_of_the_web_ui_twice(solver: str, tiny_model: LatentDiffusion) -> None:
    request = TWICE.replace(seeds="webui-gpu", solver=solver, spacing="karras")
    schedule = build_schedule(ScheduleSpec(kind="scaled_linear"))
    model = dataclasses.replace(tiny_model, denoiser=Denoiser(tiny_model.denoiser.network, schedule, "eps"))

    found = latents(request, model)
    assert found[-1].isfinite().all()
    assert len(found) == steps_of(request, model)


def test_lanczos_goes_by_way_of_the_picture(tiny_model: LatentDiffusion) -> None:
    request = TWICE.replace(hires=Hires(scale=1.5, strength=0.6, steps=3, upscaler="lanczos"))
    (image,) = to_images(tiny_model.codec.decode(latents(FOX, tiny_model)[-1]))
    larger = tiny_model.codec.encode(to_pixels(image.resize((24, 24), Image.Resampling.LANCZOS))[None])

    assert torch.allclose(latents(request, tiny_model)[-1], second_pass(larger, request, tiny_model), atol=1e-5)


@given(steps=st.integers(1, 60), strength=st.floats(0.1, 1))
def test_a_second_pass_takes_the_steps_that_it_was_told(steps: int, strength: float) -> None:
    """As A1111, whose hires steps are those that are taken: it begins within a step of its strength."""
    schedule = build_schedule(ScheduleSpec(kind="flow"))
    whole = Hires(strength=strength).whole(steps)
    grid = make_grid(schedule, whole).last(steps)

    assert len(grid) == steps
    assert float(grid[0].sigma) == pytest.approx(strength, abs=1 / whole)


def test_without_a_number_it_takes_as_many_steps_as_the_first(tiny_model: LatentDiffusion) -> None:
    request = FOX.replace(hires=Hires(strength=0.5))

    assert [steps_of(request, tiny_model), len(latents(request, tiny_model))] == [8, 8]


@pytest.mark.parametrize(("scale", "size"), [(2, (32, 24)), (1.5, (24, 20)), (1, (16, 12)), (1.1, (16, 12)), (1.2, (20, 16))])
def test_sides_are_rounded_to_what_can_be_drawn(scale: float, size: tuple[int, int], draw: Generator) -> None:
    result = draw(FOX.replace(width=16, height=12, steps=1, hires=Hires(scale=scale)))

    assert result.images[0].size == size
    assert (result.request.width, result.request.height) == (16, 12)
    assert all(math.isclose(side, scale * old, abs_tol=2) for side, old in zip(size, (16, 12), strict=True))


@pytest.mark.parametrize("solver", ["ddim", "euler_ancestral", "dpmpp_2m_sde", "heun"])
def test_a_picture_is_the_same_alone_and_in_a_batch(solver: str, draw: Generator) -> None:
    request = TWICE.replace(solver=solver, guidance=3, negative="red", count=3)
    together = draw(request).images

    for one, image in zip(request.each(), together, strict=True):
        assert np.abs(levels(draw(one).images[0]) - levels(image)).max() <= 1
    assert len({image.tobytes() for image in together}) == 3


def test_requests_with_and_without_a_second_pass_keep_apart(draw: Generator) -> None:
    requests = [FOX, TWICE, FOX.replace(seed=8), TWICE.replace(hires=Hires(scale=2, steps=1))]
    results = draw.many(requests)

    assert [result.images[0].size for result in results] == [(16, 16), (24, 24), (16, 16), (32, 32)]
    assert np.abs(levels(results[0].images[0]) - levels(draw(FOX).images[0])).max() <= 1


def test_steps_count_over_both_passes_and_have_previews(draw: Generator) -> None:
    seen = [(step.index, step.steps, step.preview()[0].size) for step in draw.stream(TWICE)]

    assert seen == [(index, 7, (16, 16) if index < 4 else (24, 24)) for index in range(7)]


def test_it_may_start_from_a_picture(draw: Generator) -> None:
    start = draw(FOX).images[0]

    assert draw(TWICE.replace(image=start, strength=0.5)).images[0].size == (24, 24)


def test_what_cannot_be_had_is_refused(tiny_model: LatentDiffusion) -> None:
    picture, mask = Image.new("RGB", (16, 16)), Image.new("L", (16, 16), 255)
    with pytest.raises(SpecError, match="hires with a mask"):
        TWICE.replace(image=picture, mask=mask)
    with pytest.raises(SpecError, match=r"scale = 0\.5"):
        Hires(scale=0.5)
    with pytest.raises(SpecError, match="hires: upscaler = 'ESRGAN'"):
        Request(hires={"upscaler": "ESRGAN"})
    with pytest.raises(SpecError, match="a second pass of 16000x16; sides go up to 8192"):
        settle(FOX.replace(width=8000, height=8, hires=Hires()), tiny_model)


def test_a_grid_finer_than_the_schedule_is_refused(tiny_model: LatentDiffusion, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiny_model.denoiser, "schedule", build_schedule(ScheduleSpec(kind="scaled_linear")))

    with pytest.raises(SpecError, match=r"hires with 60 steps at a strength of 0\.05; that is a part of 1200 steps"):
        settle(FOX.replace(hires=Hires(strength=0.05, steps=60)), tiny_model)


def test_a_trace_of_two_passes_is_refused(draw: Generator) -> None:
    with pytest.raises(SpecError, match="two passes"):
        record(draw, TWICE)


def test_json_tells_it() -> None:
    assert Request.from_json(TWICE.to_json()) == TWICE
