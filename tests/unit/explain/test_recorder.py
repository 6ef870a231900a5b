"""A recorder watches and changes nothing, and what it saw is what was computed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from PIL import Image

from undiffuse.core.random import START, PictureNoise, normal
from undiffuse.explain.recorder import Recorder, cross_attentions, reduced
from undiffuse.explain.recording import record
from undiffuse.explain.trace import Trace
from undiffuse.generation.generator import Generator
from undiffuse.generation.given import readings_of
from undiffuse.generation.output import Origin
from undiffuse.generation.request import Request
from undiffuse.generation.sample import settle
from undiffuse.model.latent_diffusion import LatentDiffusion

PHOTO = Image.linear_gradient("L").resize((16, 16)).convert("RGB")
MASK = Image.new("L", (16, 16))
MASK.paste(255, (4, 4, 12, 12))


@pytest.fixture(scope="module")
def trace(draw: Generator) -> Trace:
    return record(draw, Request("a fox", seed=3, steps=5, solver="ddim", negative="red"))


@pytest.mark.parametrize(
    "asked",
    [
        {"solver": "dpmpp_2m"},
        {"solver": "heun", "guidance": 1},
        {"solver": "euler_ancestral", "guidance_interval": (0.2, 0.7)},
        {"image": PHOTO, "strength": 0.5},
        {"image": PHOTO, "mask": MASK, "fill": "repaint"},
        {"prompt": ""},
    ],
)
def test_a_recorded_picture_is_the_unrecorded_one(asked: dict[str, Any], draw: Generator) -> None:
    request = Request(**{"prompt": "a fox", "seed": 3, "steps": 4, **asked})
    before = draw(request).images[0]
    trace = record(draw, request)

    assert trace.picture.tobytes() == before.tobytes() == draw(request).images[0].tobytes()
    assert len(trace) == (2 if "strength" in asked else 4)


def test_other_pictures_may_be_drawn_between_two_steps(draw: Generator) -> None:
    request = Request("a fox", seed=3, steps=3)
    others: list[bytes] = []

    def tell(done: int, total: int) -> None:
        others.append(draw(request.replace(seed=4, prompt="a boat")).images[0].tobytes())

    watched, alone = record(draw, request, tell=tell), record(draw, request)
    assert len(others) == 3 and len(set(others)) == 1
    assert watched.picture.tobytes() == alone.picture.tobytes()
    assert watched.tensors.keys() == alone.tensors.keys()
    assert all(torch.equal(watched.tensors[name], own) for name, own in alone.tensors.items() if name != "work")  # seconds


def test_nothing_stays_behind_even_after_an_error(draw: Generator) -> None:
    denoiser = draw.model.denoiser
    with pytest.raises(KeyboardInterrupt), Recorder(draw.model, places=[1]):
        assert all(attention.probe is not None for attention in cross_attentions(denoiser.network).values())
        raise KeyboardInterrupt

    assert not denoiser._forward_hooks and not denoiser._forward_pre_hooks
    assert all(attention.probe is None for attention in cross_attentions(denoiser.network).values())


def test_the_first_x_is_the_noise_of_the_seed(trace: Trace) -> None:
    noise = PictureNoise(3, (0,), trace.tensors["x"].shape[1:])(START)[0]
    assert trace.level(0).alpha == 0
    torch.testing.assert_close(trace.tensors["x"][0], noise)


def test_ddim_steps_lead_from_each_x_to_the_next(trace: Trace) -> None:
    x, x0 = trace.tensors["x"].double(), trace.tensors["x0"].double()
    for step in range(len(trace) - 1):
        now, following = trace.level(step), trace.level(step + 1)
        eps = (x[step] - now.alpha * x0[step]) / now.sigma
        torch.testing.assert_close(following.alpha * x0[step] + following.sigma * eps, x[step + 1], rtol=1e-4, atol=1e-5)


def test_guidance_is_what_joins_the_two_estimates(trace: Trace) -> None:
    more, less = trace.tensors["conditional"], trace.tensors["unconditional"]
    torch.testing.assert_close(less + 4 * (more - less), trace.tensors["x0"], rtol=1e-4, atol=1e-5)
    row = trace.numbers()[2]
    assert row["difference"] == pytest.approx((more - less)[2].square().mean().sqrt().item(), rel=1e-5)


def test_outside_the_interval_there_is_no_unconditional_estimate(draw: Generator) -> None:
    trace = record(draw, Request("a fox", seed=3, steps=5, guidance_interval=(0.5, 1)))
    missing = [row["unconditional"] is None for row in trace.numbers()]
    assert missing == [float(trace.level(step).sigma) < 0.5 for step in range(5)]
    assert "unconditional" not in record(draw, Request("a fox", seed=3, steps=2, guidance=1)).tensors


def test_attention_is_that_of_the_net_asked_alone(draw: Generator, trace: Trace) -> None:
    request = settle(Request("a fox", seed=3), draw.model)
    model, step = draw.model, 2
    cond = model.conditioner([readings_of(request, model)])
    seen = {}
    for path, attention in cross_attentions(model.denoiser.network).items():
        attention.probe = lambda weights, path=path: seen.update({path: weights})
    with torch.no_grad():
        model.denoiser(trace.tensors["x"][step][None], trace.level(step), cond)
    for attention in cross_attentions(model.denoiser.network).values():
        attention.probe = None

    assert list(trace.layers) == list(seen) and len(seen) > 1
    for path, maps in trace.layers.items():
        expected = seen[path][0].mean(0)  # (N, M): [CLS] a f ##o ##x [SEP] ...
        torch.testing.assert_close(maps[step, :4].flatten(1), expected[:, 1:5].T, rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(trace.of_words(maps)[step, 1].flatten(), expected[:, 2:5].sum(1), rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(maps.sum(1), torch.ones_like(maps[:, 0]))


def test_words_are_told_with_the_maps_of_their_tokens(trace: Trace) -> None:
    assert [(word.text, word.places) for word in trace.words] == [("a", (0,)), ("fox", (1, 2, 3))]


def test_calls_of_a_second_order_solver_are_counted(draw: Generator) -> None:
    numbers = record(draw, Request("a fox", seed=3, steps=4, solver="heun", spacing="karras")).numbers()
    assert [row["calls"] for row in numbers][-1] == 1 and max(row["calls"] or 0 for row in numbers) == 2


def test_a_picture_of_a_batch_is_recorded_at_its_place(draw: Generator) -> None:
    request = Request("a fox", seed=3, steps=3)
    alone, there = record(draw, request), record(draw, request, Origin("tiny", "", "cpu", "fp32", batch=3, position=2))
    assert there.told["origin"]["batch"] == 3 and there.told["origin"]["position"] == 2
    for name in ("x", "conditional", "unconditional", "x0"):
        torch.testing.assert_close(there.tensors[name], alone.tensors[name], rtol=1e-3, atol=1e-4)


def test_clip_prompts_are_recorded_word_by_word(clip_model: LatentDiffusion) -> None:
    draw = Generator(clip_model, device="cpu", precision="fp32", tell=None)
    trace = record(draw, Request("a (photorealistically:1.2) drawn fox", seed=3, steps=2))
    assert [word.text for word in trace.words] == ["a", "photorealistically", "drawn", "fox"]
    assert len(trace.words[1].places) > 1
    assert all(maps.shape[1] == trace.words[-1].places[-1] + 2 for maps in trace.layers.values())


def test_large_maps_become_the_means_of_their_parts() -> None:
    weights = normal((24 * 48, 5), "maps").softmax(1)
    maps = reduced(weights, (48, 96), [3, 0])  # one halving below the latent
    assert maps.shape == (3, 8, 16)
    whole = weights.T.unflatten(1, (24, 48))
    expected = whole[[3, 0]].unflatten(2, (16, 3)).mean(3).unflatten(1, (8, 3)).mean(2)
    torch.testing.assert_close(maps[:2], expected)
    torch.testing.assert_close(maps.sum(0), torch.ones(8, 16))
