"""A generator draws what requests say, step by step or at once, and refuses what its model has not learned."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from undiffuse.core.errors import DeviceError, SpecError, UsageError
from undiffuse.diffusion.solvers.table import SOLVERS
from undiffuse.generation import generator
from undiffuse.generation import sample as sampling
from undiffuse.generation.generator import Generator, Step
from undiffuse.generation.output import read_origin, read_request
from undiffuse.generation.request import Request
from undiffuse.model.build import build_model
from undiffuse.model.latent_diffusion import LatentDiffusion
from undiffuse.model.spec import ModelSpec

FOX = Request("a fox", seed=7, steps=3)


@pytest.fixture
def draw(tiny_model: LatentDiffusion) -> Generator:
    return Generator(tiny_model, device="cpu", precision="fp32", tell=None)


@pytest.fixture
def learned(tiny_spec: ModelSpec) -> Callable[[str], Generator]:
    """A generator for a model that reads only `kind`, "" for nothing."""

    def make(kind: str) -> Generator:
        parts = tuple(part for part in tiny_spec.conditioners if part.kind == kind)
        net = tiny_spec.denoiser.model_dump() | {"context_width": None, "vector_width": 8 if parts else None}
        plain = tiny_spec.model_dump(mode="json") | {"conditioners": [part.model_dump() for part in parts], "denoiser": net}
        return Generator(build_model(ModelSpec.parse(plain)).eval(), device="cpu", precision="fp32", tell=None)

    return make


def levels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


def test_one_request_gives_its_pictures(draw: Generator) -> None:
    result = draw(FOX.replace(count=3))

    assert [image.size for image in result.images] == [(16, 16)] * 3
    assert result.request == FOX.replace(count=3, width=16, height=16)
    assert result.seconds > 0
    assert levels(result.images[0]).std() > 1


def test_words_labels_and_guidance_change_the_picture(draw: Generator) -> None:
    variants = [FOX, FOX.replace(prompt="boat"), FOX.replace(label="fox"), FOX.replace(guidance=1), FOX.replace(negative="red")]

    pictures = {result.images[0].tobytes() for result in draw.many(variants)}

    assert len(pictures) == len(variants)


def test_other_sizes_are_drawn(draw: Generator) -> None:
    assert draw(FOX.replace(width=24, height=16)).images[0].size == (24, 16)


def test_the_steps_are_counted_over_all_batches(draw: Generator) -> None:
    draw.batch = 2
    seen = list(draw.stream(FOX.replace(count=3), Request("a boat", seed=1, steps=5, solver="heun")))

    assert [step.index for step in seen] == list(range(3 + 3 + 5))
    assert {step.steps for step in seen} == {11}
    assert [len(step.pictures) for step in seen] == [2] * 3 + [1] * 3 + [1] * 5
    assert [step.x0.shape for step in seen[:4]] == [(2, 4, 8, 8)] * 3 + [(1, 4, 8, 8)]
    assert [len(step.images) for step in seen] == [0, 0, 2, 0, 0, 1, 0, 0, 0, 0, 1]


def test_only_the_last_step_holds_the_results_in_the_order_of_the_requests(draw: Generator) -> None:
    requests = [FOX.replace(steps=4), FOX, FOX.replace(steps=4, seed=8, count=2)]  # the first and the last share a batch

    seen = list(draw.stream(*requests))

    assert not any(step.results for step in seen[:-1])
    assert [result.request for result in seen[-1].results] == [one.replace(width=16, height=16) for one in requests]
    assert [len(result.images) for result in seen[-1].results] == [1, 1, 2]
    assert all(result.seconds > 0 for result in seen[-1].results)
    assert [result.images for result in draw.many(requests)] == [result.images for result in seen[-1].results]


def test_nothing_asked_is_nothing_drawn(draw: Generator) -> None:
    assert draw.many([]) == []
    assert list(draw.stream()) == []


@pytest.mark.parametrize("solver", sorted(set(SOLVERS) - {"ddim_inverse"}))
@pytest.mark.parametrize("steps", [1, 4])
def test_every_solver_draws_in_as_many_steps_as_it_says(solver: str, steps: int, draw: Generator) -> None:
    seen = list(draw.stream(FOX.replace(solver=solver, steps=steps)))

    assert len(seen) == seen[0].steps == steps
    assert len(seen[-1].results) == 1


def test_options_reach_the_solver_and_part_batches(draw: Generator) -> None:
    plain = FOX.replace(solver="Euler", guidance=1)
    churned = plain.replace(solver_options={"s_churn": 3})

    together, alone = draw.many([plain, churned, plain]), draw(churned)

    assert np.array_equal(levels(together[1].images[0]), levels(alone.images[0]))
    assert np.array_equal(levels(together[0].images[0]), levels(together[2].images[0]))
    assert not np.array_equal(levels(together[0].images[0]), levels(together[1].images[0]))


def test_a_preview_is_what_the_pictures_look_like_so_far(draw: Generator) -> None:
    steps = list(draw.stream(FOX.replace(count=2)))

    assert [image.size for image in steps[0].preview()] == [(16, 16)] * 2
    assert steps[0].preview()[0] != steps[1].preview()[0]
    # Into the clean level every solver goes with its clean estimate.
    assert np.abs(levels(steps[-1].preview()[0]) - levels(steps[-1].images[0])).max() <= 1


def test_stopping_early_closes_the_solver(draw: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[str] = []
    inner = sampling.steps

    def watched(*arguments: object) -> object:
        try:
            yield from inner(*arguments)  # type: ignore[arg-type]
        finally:
            ended.append("closed")

    monkeypatch.setattr(sampling, "steps", watched)
    under_way = draw.stream(FOX)
    next(under_way)
    under_way.close()  # type: ignore[attr-defined]

    assert ended == ["closed"]
    assert draw(FOX).images == draw(FOX).images


def test_gradients_stay_on_for_the_caller_between_steps(draw: Generator) -> None:
    for step in draw.stream(FOX):
        assert torch.is_grad_enabled()
        assert not step.x0.requires_grad


def test_a_picture_to_start_from_is_left_as_far_as_strength_says(draw: Generator) -> None:
    start = Image.effect_noise((40, 30), 60).convert("RGB")
    request = FOX.replace(image=start, steps=10)

    near, far = (list(draw.stream(request.replace(strength=strength))) for strength in (0.2, 0.9))

    assert (len(near), len(far)) == (2, 9)
    assert near[-1].results[0].images != far[-1].results[0].images


def test_pictures_that_start_from_others_share_a_batch(draw: Generator) -> None:
    starts = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
    requests = [FOX.replace(image=start, strength=0.5) for start in starts]

    seen = list(draw.stream(*requests, FOX))

    assert len(seen[0].pictures) == 2
    assert len({result.images[0].tobytes() for result in seen[-1].results}) == 3


def test_results_are_saved_with_their_own_seeds(draw: Generator, tmp_path: Path) -> None:
    files = draw(FOX.replace(count=3)).save(tmp_path / "new")

    assert [path.name for path in files] == ["00000-7.png", "00001-8.png", "00002-9.png"]
    assert [read_request(path) for path in files] == FOX.replace(count=3, width=16, height=16).each()
    origins = [read_origin(path) for path in files]
    assert [(origin.batch, origin.position) for origin in origins if origin] == [(3, 0), (3, 1), (3, 2)]
    assert {origin.model_hash for origin in origins if origin} == {draw.origin.model_hash}


def test_what_was_chosen_is_told_in_one_line(tiny_model: LatentDiffusion, capsys: pytest.CaptureFixture[str]) -> None:
    lines: list[str] = []

    draw = Generator(tiny_model, device="cpu", precision="fp32", tell=lines.append)
    assert lines == [repr(draw)]
    assert "'tiny' on cpu" in lines[0] and lines[0].endswith("fp32)")

    Generator(tiny_model, device="cpu", precision="fp32", tell=None)
    assert capsys.readouterr() == ("", "")
    Generator(tiny_model, device="cpu", precision="fp32")
    assert capsys.readouterr() == ("", lines[0] + "\n")


def test_on_a_cpu_freed_memory_is_kept(tiny_model: LatentDiffusion, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(generator, "keep_freed_memory", lambda: asked.append("kept"))

    Generator(tiny_model, device="cpu", precision="fp32", tell=None)

    assert asked == ["kept"]


def test_a_model_in_training_can_be_looked_at(tiny_model: LatentDiffusion) -> None:
    model = copy.deepcopy(tiny_model)
    model.denoiser.requires_grad_(True)

    Generator(model, device="cpu", precision="fp32", tell=None)(FOX)

    assert all(weight.requires_grad for weight in model.denoiser.parameters())
    assert not model.denoiser.network.training


def test_half_precision_draws_nearly_the_same(draw: Generator, tiny_model: LatentDiffusion) -> None:
    half = Generator(copy.deepcopy(tiny_model), device="cpu", precision="bf16", tell=None)

    request = FOX.replace(image=Image.new("RGB", (16, 16), "red"))
    for one in (FOX, request):
        assert np.abs(levels(half(one).images[0]) - levels(draw(one).images[0])).mean() < 10
    assert half.origin.precision == "bf16"
    assert half.origin.model_hash == draw.origin.model_hash  # told of the weights as they were loaded


def test_what_does_not_exist_is_refused(tiny_model: LatentDiffusion) -> None:
    with pytest.raises(UsageError, match="batch = 0"):
        Generator(tiny_model, batch=0)
    with pytest.raises(DeviceError, match="nonsense"):
        Generator(tiny_model, device="nonsense")


def test_sizes_that_do_not_divide_are_refused_before_anything_is_drawn(draw: Generator) -> None:
    with pytest.raises(SpecError, match=r"a picture of 17x16; both sides must be multiples of 4; .* is 16"):
        draw.stream(FOX, FOX.replace(width=17))


def test_a_label_that_was_not_learned_is_refused(draw: Generator) -> None:
    with pytest.raises(SpecError, match="unknown label 'cat'"):
        draw(Request(label="cat", seed=1))


@pytest.mark.parametrize(
    ("kind", "asked", "message"),
    [
        ("label", {"prompt": "a fox"}, "cannot read the prompt 'a fox'; it reads labels; leave the prompt out"),
        ("label", {"negative": "red"}, "cannot read the negative prompt 'red'; it reads labels"),
        ("label", {"clip_skip": 2}, "cannot read clip_skip; it reads labels; leave clip_skip out"),
        ("", {"prompt": "a fox"}, "cannot read the prompt 'a fox'; it reads nothing at all"),
        ("", {"label": "fox"}, "cannot read the label 'fox'; it reads nothing at all"),
    ],
)
def test_a_model_says_what_it_can_read(
    kind: str, asked: dict[str, object], message: str, learned: Callable[[str], Generator]
) -> None:
    with pytest.raises(SpecError) as caught:
        learned(kind)(Request(**asked, seed=1))

    assert message in str(caught.value)


@pytest.mark.parametrize(("kind", "label"), [("label", "boat"), ("", None)])
def test_models_without_words_draw(kind: str, label: str | None, learned: Callable[[str], Generator]) -> None:
    assert learned(kind)(Request(label=label, seed=1, steps=2)).images[0].size == (16, 16)


def test_prompts_that_are_too_long_are_told(tiny_model: LatentDiffusion) -> None:
    short, long = "fox", "a very long prompt"  # a piece a letter, twelve in all

    assert sampling.unread(Request(short, negative=long), tiny_model) == [long]


def test_a_step_prints_without_the_model(draw: Generator) -> None:
    step = next(iter(draw.stream(FOX)))

    assert isinstance(step, Step)
    assert "Autoencoder" not in repr(step)


def test_pictures_that_are_not_kept_come_with_their_steps_alone(draw: Generator) -> None:
    requests = [Request("a fox", steps=2, seed=1, count=3), Request("a boat", steps=2, seed=9)]
    steps = list(draw.stream(*requests, keep=False))
    kept = draw.many(requests)

    shown = [image.tobytes() for step in steps for image in step.images]
    assert shown == [image.tobytes() for result in kept for image in result.images]
    assert [result.images for result in steps[-1].results] == [[], []]
    assert [result.request for result in steps[-1].results] == [result.request for result in kept]
