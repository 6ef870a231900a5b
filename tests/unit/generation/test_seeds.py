"""Whose numbers a seed stands for: the order in which each program draws, places in a batch, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from undiffuse.core.errors import SpecError
from undiffuse.core.philox import cuda_normal
from undiffuse.core.random import START, PictureNoise
from undiffuse.diffusion.schedule import ScheduleSpec, build_schedule
from undiffuse.generation.generator import Generator
from undiffuse.generation.request import Request
from undiffuse.generation.seed_profiles import PROFILES
from undiffuse.generation.seeds.levels import grid_as
from undiffuse.generation.seeds.numbers import numbers_of
from undiffuse.model.latent_diffusion import LatentDiffusion

SHAPE = (4, 4, 8)
SEED = 11
SCHEDULE = build_schedule(ScheduleSpec(kind="scaled_linear"))
PHOTO = Image.effect_noise((16, 16), 90).convert("RGB")


def randn(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape or (1, *SHAPE), generator=generator)


def at(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def numbers(**told: Any) -> Any:
    return numbers_of(Request(**{"seed": SEED, **told}), SHAPE)


def test_our_own_stay_what_they_were() -> None:
    ours, before = numbers(), PictureNoise(SEED, (0,), SHAPE)

    assert Request().seeds == "native"
    assert all(torch.equal(ours(step), before(step)) for step in (START, 0, 5, -70))
    assert ours.latent("image") is None


def test_the_web_ui_draws_start_and_steps_from_one_generator() -> None:
    found, generator = numbers(seeds="webui-cpu", solver="euler_ancestral"), at(SEED)

    assert all(torch.equal(found(step)[0], randn(generator, *SHAPE)) for step in (START, 0, 1, 2))


def test_ensd_gives_the_steps_a_generator_of_their_own() -> None:
    found, generator = numbers(seeds="webui-cpu", solver="euler_ancestral", ensd=31337), at(SEED + 31337)

    assert torch.equal(found(START), randn(at(SEED)))
    assert all(torch.equal(found(step), randn(generator)) for step in (0, 1, 2))


@pytest.mark.parametrize("seeds", ["webui-gpu", "diffusers-gpu"])
def test_numbers_of_a_gpu_count_calls(seeds: str) -> None:
    found = numbers(seeds=seeds, solver="euler_ancestral")

    for call, step in enumerate((START, 0, 1)):
        assert np.array_equal(found(step).numpy().ravel(), cuda_normal(128, SEED, call))


def test_diffusers_draws_latents_before_the_start() -> None:
    found, generator = numbers(seeds="diffusers", image=PHOTO, strength=0.5), at(SEED)

    assert torch.equal(found.latent("image"), randn(generator))
    assert torch.equal(found(START), randn(generator))
    assert found.latent("around") is None
    assert torch.equal(found(0), randn(generator))


def test_any_order_of_asking_gives_the_same() -> None:
    one, other = (numbers(seeds="webui-cpu", solver="euler_ancestral") for _ in range(2))
    steps = [START, 0, 1, 2, 3]

    forwards, backwards = [one(step) for step in steps], [other(step) for step in reversed(steps)]

    assert all(torch.equal(a, b) for a, b in zip(forwards, reversed(backwards), strict=True))


def test_a_picture_of_comfyui_has_its_row_of_the_batch() -> None:
    rows = Request(seeds="comfyui-cpu", solver="euler_ancestral", seed=SEED, count=3).each()
    start, later = randn(at(SEED), 3, *SHAPE), at(SEED + 1)
    steps = [randn(later, 3, *SHAPE) for _ in range(2)]

    assert [(row.seed, row.place) for row in rows] == [(SEED, (k, 3)) for k in range(3)]
    for k, row in enumerate(rows):
        found = numbers_of(row, SHAPE)
        assert torch.equal(found(START)[0], start[k])
        assert all(torch.equal(found(step)[0], steps[step][k]) for step in (1, 0))


def test_on_a_gpu_comfyui_draws_its_steps_there() -> None:
    first, second = (
        numbers_of(row, SHAPE) for row in Request(seeds="comfyui", solver="euler_ancestral", seed=SEED, count=2).each()
    )
    whole = cuda_normal(256, SEED, call=3).reshape(2, *SHAPE)

    assert np.array_equal(torch.cat([first(3), second(3)]).numpy(), whole)
    assert torch.equal(torch.cat([first(START), second(START)]), randn(at(SEED), 2, *SHAPE))


def test_a_variation_is_an_angle() -> None:
    one, other = randn(at(SEED), *SHAPE), randn(at(5), *SHAPE)
    found = numbers(seeds="webui-cpu", variation=(5, 0.3))

    for y in range(SHAPE[0]):
        for x in range(SHAPE[2]):  # every column is turned for itself
            a, b = one[y, :, x].double(), other[y, :, x].double()
            angle = torch.acos(a @ b / (a.norm() * b.norm()))
            expected = (torch.sin(0.7 * angle) * a + torch.sin(0.3 * angle) * b) / torch.sin(angle)
            assert torch.allclose(found(START)[0, y, :, x].double(), expected, atol=1e-5)
    assert torch.equal(found(0), numbers(seeds="webui-cpu")(0))
    assert torch.allclose(numbers(variation=(5, 1.0))(START), numbers(seed=5)(START), atol=1e-5)
    assert torch.equal(numbers(variation=(5, 0.0))(START), numbers()(START))


def test_of_several_variations_the_other_seed_counts_up() -> None:
    request = Request(seed=SEED, variation=(5, 0.3), count=3)

    assert [(one.seed, one.variation) for one in request.each()] == [(SEED, (5 + k, 0.3)) for k in range(3)]


@pytest.mark.parametrize(
    ("seeds", "steps", "strength", "total", "kept"),
    [
        ("diffusers", 25, 0.75, 25, 18),
        ("webui-cpu", 20, 0.75, 20, 16),
        ("webui-gpu", 20, 1.0, 20, 20),
        ("comfyui", 20, 0.75, 26, 20),
        ("comfyui-cpu", 20, 1.0, 20, 20),
        ("native", 25, 0.75, 25, 19),
    ],
)
def test_a_strength_leaves_as_many_steps_as_there(seeds: str, steps: int, strength: float, total: int, kept: int) -> None:
    """diffusers: int(n s). Web UI: int(n min(s, 0.999)) + 1. ComfyUI: n of int(n / s)."""
    whole = grid_as(Request(steps=total, spacing="karras"), SCHEDULE)
    request = Request(steps=steps, spacing="karras", image=PHOTO, strength=strength, seeds=seeds)

    assert grid_as(request, SCHEDULE).levels == whole.levels[-kept - 1 :]


@pytest.mark.parametrize(("seeds", "solver"), [("webui-cpu", "dpm_2"), ("comfyui", "uni_pc"), ("webui-gpu", "dpmpp_3m_sde")])
def test_some_solvers_leave_out_the_last_level_but_one(seeds: str, solver: str) -> None:
    longer = grid_as(Request(steps=9, spacing="karras"), SCHEDULE)
    found = grid_as(Request(steps=8, spacing="karras", seeds=seeds, solver=solver), SCHEDULE)

    assert found.levels == (*longer.levels[:-2], longer.levels[-1])


def test_a_strength_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(SpecError, match="it leaves no step with seeds 'diffusers'; raise one of them"):
        grid_as(Request(steps=4, image=PHOTO, strength=0.2, seeds="diffusers"), SCHEDULE)


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"seeds": "diffusers", "solver": "dpmpp_sde"}, "solver 'dpmpp_sde' with seeds 'diffusers'.*is known for ddim, ddpm"),
        ({"seeds": "comfyui", "solver": "tcd"}, "solver 'tcd' with seeds 'comfyui'"),
        ({"seeds": "comfyui", "solver": "ddim", "eta": 0.5}, "solver 'ddim' with seeds 'comfyui'"),
        ({"seeds": "webui-cpu", "solver": "ddpm"}, "or seeds = 'native'"),
        ({"seeds": "comfyui", "solver": "euler", "solver_options": {"s_churn": 3}}, "noise of solver 'euler'"),
        ({"seeds": "webui-gpu", "fill": "repaint"}, "fill = 'repaint' with seeds 'webui-gpu'"),
        ({"seeds": "comfyui", "solver": "dpmpp_2m_sde_gpu"}, "take 'dpmpp_2m_sde'"),
        ({"ensd": 1}, "only those of the web UI have it"),
        ({"place": (1, 2)}, "only those of ComfyUI have it"),
        ({"place": (2, 2), "seeds": "comfyui"}, "the first must be below the second"),
        ({"place": (0, 2), "seeds": "comfyui", "count": 2}, "and the count 1"),
        ({"seeds": "fooocus"}, "'webui-gpu' or 'webui-cpu'"),
    ],
)
def test_what_cannot_be_drawn_as_there_is_refused(told: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        Request(**told)


def test_solvers_without_noise_of_their_own_go_with_every_seed() -> None:
    for seeds in PROFILES:
        Request(seeds=seeds, solver="tcd", solver_options={"gamma": 0})
        Request(seeds=seeds, solver="dpmpp_sde", solver_options={"eta": 0})
        Request(seeds=seeds, solver="dpmpp_2m")


@pytest.mark.parametrize("seeds", PROFILES)
def test_a_picture_is_the_same_in_every_batch(seeds: str, tiny_model: LatentDiffusion) -> None:
    request = Request("a fox", steps=3, solver="euler_ancestral", seed=SEED, count=3, seeds=seeds)
    together, one_by_one = (Generator(tiny_model, device="cpu", precision="fp32", batch=batch, tell=None) for batch in (3, 1))

    expected = [np.asarray(image, dtype=int) for image in together(request).images]
    found = [np.asarray(image, dtype=int) for image in one_by_one(request).images]
    alone = np.asarray(one_by_one(request.each()[2]).images[0], dtype=int)

    assert all(np.abs(a - b).max() <= 1 for a, b in zip(found, expected, strict=True))
    assert np.array_equal(alone, found[2])
    assert np.abs(expected[0] - expected[1]).max() > 20


def test_what_the_model_cannot_have_is_refused_before_anything_is_drawn(tiny_model: LatentDiffusion) -> None:
    draw = Generator(tiny_model, device="cpu", precision="fp32", tell=None)

    with pytest.raises(SpecError, match="zero SNR"):
        draw.stream(Request("a fox", seeds="webui-cpu", solver="dpmpp_2m_sde"))
