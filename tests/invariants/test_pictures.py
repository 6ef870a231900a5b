"""A seed is a picture, whoever else is in the batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from undiffuse.generation.generator import Generator
from undiffuse.generation.request import Request
from undiffuse.model.latent_diffusion import LatentDiffusion

FOX = Request("a fox", seed=42, steps=3)
OTHERS = [Request(prompt, seed=seed, steps=3) for seed, prompt in enumerate(["boat", "", "red", "a", "b", "c", "d"])]
STRANGERS = [Request("a boat", seed=42, steps=steps) for steps in (2, 5)]


@pytest.fixture(scope="module")
def draw(tiny_model: LatentDiffusion) -> Generator:
    return Generator(tiny_model, device="cpu", precision="fp32", batch=8, tell=None)


def drawn(draw: Generator, *requests: Request) -> list[np.ndarray]:
    return [np.asarray(image).astype(int) for result in draw.many(requests) for image in result.images]


def furthest(one: np.ndarray, other: np.ndarray) -> int:
    return int(np.abs(one - other).max())


def test_another_day_gives_the_same_bits(draw: Generator) -> None:
    assert draw(FOX).images[0].tobytes() == draw(FOX).images[0].tobytes()


@pytest.mark.parametrize("solver", ["dpmpp_2m", "euler_ancestral", "ddpm"])
@pytest.mark.parametrize("position", [0, 5, 7])
def test_a_picture_is_the_same_alone_and_anywhere_in_a_batch_of_eight(position: int, solver: str, draw: Generator) -> None:
    fox, *others = (one.replace(solver=solver) for one in (FOX, *OTHERS))
    batch = [*others[:position], fox, *others[position:]]

    assert furthest(drawn(draw, fox)[0], drawn(draw, *batch)[position]) <= 1


def test_the_neighbours_do_not_matter_to_the_bit(draw: Generator) -> None:
    strange = [one.replace(prompt="x", negative="y", label="boat", seed=one.seed + 100) for one in OTHERS]

    one, other = drawn(draw, *OTHERS[:5], FOX, *OTHERS[5:])[5], drawn(draw, *strange[:5], FOX, *strange[5:])[5]

    assert np.array_equal(one, other)


def test_requests_of_other_steps_around_it_do_not_matter(draw: Generator) -> None:
    mixed = drawn(draw, STRANGERS[0], FOX, STRANGERS[1], FOX.replace(prompt="boat"))

    assert furthest(mixed[1], drawn(draw, FOX)[0]) <= 1
    assert furthest(mixed[0], drawn(draw, STRANGERS[0])[0]) <= 1


def test_a_count_is_as_many_seeds(draw: Generator) -> None:
    together = drawn(draw, FOX.replace(count=5))
    apart = drawn(draw, *(FOX.replace(seed=42 + k) for k in range(5)))
    alone = [drawn(draw, FOX.replace(seed=42 + k))[0] for k in range(5)]

    assert all(np.array_equal(one, other) for one, other in zip(together, apart, strict=True))
    assert max(furthest(one, other) for one, other in zip(together, alone, strict=True)) <= 1
    assert len({one.tobytes() for one in together}) == 5


@pytest.mark.parametrize("batch", [1, 3, 5])
def test_how_many_at_once_does_not_matter(batch: int, draw: Generator, tiny_model: LatentDiffusion) -> None:
    some = Generator(tiny_model, device="cpu", precision="fp32", batch=batch, tell=None)
    request = FOX.replace(count=5, steps=2)

    for one, other in zip(drawn(some, request), drawn(draw, request), strict=True):
        assert furthest(one, other) <= 1


def test_a_picture_to_start_from_belongs_to_its_own_request(draw: Generator) -> None:
    starts = draw(FOX.replace(count=2)).images
    requests = [FOX.replace(image=start, strength=0.6, prompt="boat") for start in starts]

    together, alone = drawn(draw, *requests), [drawn(draw, request)[0] for request in requests]

    assert max(furthest(one, other) for one, other in zip(together, alone, strict=True)) <= 1
    assert furthest(*together) > 1


def test_drawing_leaves_the_model_and_the_global_random_state_alone(draw: Generator) -> None:
    before, weights = torch.get_rng_state(), draw.model.fingerprint
    draw(FOX.replace(solver="euler_ancestral"))

    assert torch.equal(torch.get_rng_state(), before)
    assert draw.model.fingerprint == weights
