"""The engine draws what a generator draws, many jobs in one call, fairly, and ends the guilty job alone."""

from __future__ import annotations

import copy
import threading
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from tests.serving.conftest import Heard, furthest
from torch import Tensor

from undiffuse.core.conditioning import Conditioning
from undiffuse.core.errors import Cancelled, SpecError, TimedOut, UsageError
from undiffuse.core.random import normal
from undiffuse.diffusion.level import Level
from undiffuse.diffusion.solvers.table import SOLVERS
from undiffuse.generation import sample as sampling
from undiffuse.generation.generator import Generator
from undiffuse.generation.hires import Hires
from undiffuse.generation.request import Request
from undiffuse.model.denoiser import Denoiser
from undiffuse.model.latent_diffusion import LatentDiffusion
from undiffuse.serving.asking import Question, answer
from undiffuse.serving.drawing import shares
from undiffuse.serving.engine import Engine, Work
from undiffuse.serving.limits import Limits

FOX = Request("a fox", seed=7, steps=3)
PHOTO = Image.effect_noise((40, 30), 60).convert("RGB")
HOLE = Image.new("L", (40, 30))
HOLE.paste(255, (10, 8, 22, 20))
VARIED = [
    FOX,
    Request("a boat with sails", negative="red", steps=5, seed=1, guidance=7, solver="Euler a"),
    Request(label="boat", steps=4, seed=2, guidance=1, solver="heun"),
    Request("fox", steps=6, seed=3, guidance_rescale=0.5, guidance_interval=(0.2, 0.9), solver="DPM++ 2M Karras"),
    Request("fox", label="fox", steps=3, seed=2**64 - 1, scales={"label": 3.0}, solver="ddim", eta=0.5),
    Request("a fox", steps=5, seed=5, image=PHOTO, strength=0.6),
    Request("a hat", steps=3, seed=6, image=PHOTO, mask=HOLE, fill="known"),
    Request("a hat", steps=3, seed=6, image=PHOTO, mask=HOLE, fill="repaint"),
]


def engine_of(draw: Generator, batch: int = 8) -> Engine:
    return Engine({"tiny": draw}.__getitem__, batch)


def run(engine: Engine, *requests: Request) -> list[Heard]:
    heard = [Heard() for _ in requests]
    for index, (request, one) in enumerate(zip(requests, heard, strict=True)):
        engine.submit(Work(str(index), "tiny", request, one))
    while engine.turn():
        pass
    return heard


@pytest.mark.parametrize("request_", VARIED, ids=range(len(VARIED)))
def test_one_picture_alone_is_the_generators_to_the_bit(request_: Request, alone: Generator) -> None:
    (heard,) = run(engine_of(alone, batch=1), request_)

    expected = alone(request_)
    assert heard.error is None and heard.over
    assert heard.pictures[0].tobytes() == expected.images[0].tobytes()
    assert heard.begun == expected.request
    assert heard.steps == [(0, done + 1, heard.steps[0][2]) for done in range(heard.steps[0][2])]


def test_two_passes_are_drawn_by_calls_of_their_own(alone: Generator) -> None:
    twice = FOX.replace(hires=Hires(scale=1.5, steps=2))
    assert not shares(twice)

    heard, other = run(engine_of(alone), twice, FOX)

    assert heard.pictures[0].tobytes() == alone(twice).images[0].tobytes()
    assert other.pictures[0].tobytes() == alone(FOX).images[0].tobytes()
    assert heard.steps == [(0, done, 5) for done in (1, 2, 3, 4, 5)]


def test_a_refiner_takes_over_where_the_request_says(tiny_model: LatentDiffusion) -> None:
    second = copy.deepcopy(tiny_model)
    with torch.no_grad():
        for key, weight in second.denoiser.network.named_parameters():
            weight.add_(0.1 * normal(weight.shape, "refiner", key))
    draw = Generator(tiny_model, refiner=second, device="cpu", precision="fp32", batch=1, tell=None)
    refined, plain = FOX.replace(refine_at=0.5), FOX

    found = run(engine_of(draw), refined, plain)

    assert furthest(found[0].pictures[0], draw(refined).images[0]) == 0
    assert furthest(found[1].pictures[0], draw(plain).images[0]) <= 1
    assert furthest(found[0].pictures[0], found[1].pictures[0]) > 0


def test_what_is_found_too_large_when_its_size_is_known_ends(alone: Generator) -> None:
    engine = Engine({"tiny": alone}.__getitem__, check=Limits(side=24).check)

    refused, taken = run(engine, FOX.replace(hires=Hires()), FOX.replace(hires=Hires(scale=1.5)))

    assert isinstance(refused.error, SpecError) and "a side of 32 pixels" in str(refused.error)
    assert taken.pictures[0].size == (24, 24)


def test_all_kinds_of_requests_share_calls_and_come_out_the_same(alone: Generator) -> None:
    engine = engine_of(alone)

    heard = run(engine, *VARIED)

    for one, request in zip(heard, VARIED, strict=True):
        assert furthest(one.pictures[0], alone(request).images[0]) <= 1
    assert engine.rows > 2.5 * engine.calls


@pytest.mark.parametrize("solver", sorted(set(SOLVERS) - {"ddim_inverse"}))
def test_every_solver_shares_calls_with_another(solver: str, alone: Generator) -> None:
    requests = [FOX.replace(solver=solver, steps=4), FOX.replace(steps=7, seed=2)]

    heard = run(engine_of(alone), *requests)

    for one, request in zip(heard, requests, strict=True):
        assert furthest(one.pictures[0], alone(request).images[0]) <= 1


def test_what_is_asked_for_beside_jobs_may_be_taken_back_until_it_begins(alone: Generator) -> None:
    engine, seen = engine_of(alone), []
    first, taken_back, last = (engine.alone("tiny", lambda draw, name=name: seen.append(name)) for name in "abc")
    lost = engine.alone("nobody", lambda draw: None)
    assert taken_back.cancel()

    (heard,) = run(engine, FOX)

    assert seen == ["a", "c"] and first.done() and last.done()
    assert isinstance(lost.exception(), KeyError)
    assert heard.error is None and len(heard.pictures) == 1


def test_rows_at_different_levels_are_answered_as_each_alone(tiny_model: LatentDiffusion) -> None:
    denoise, conditioner = tiny_model.denoiser, tiny_model.conditioner
    levels = [Level(0.9, 0.1, 0.9), Level(0.2, 0.8, 0.2)]
    xs = [torch.randn(rows, 4, 8, 8, generator=torch.Generator().manual_seed(rows)) for rows in (2, 1)]
    conds = [conditioner([{"caption": word}] * len(x)) for word, x in zip(("fox", "a boat"), xs, strict=True)]
    questions = [Question(*each) for each in zip(xs, levels, conds, strict=True)]

    together = answer(questions, denoise)

    for question, got in zip(questions, together, strict=True):
        with torch.no_grad():
            torch.testing.assert_close(got, denoise(question.x, question.level, question.cond), atol=2e-5, rtol=1e-4)


def test_prompts_of_different_lengths_are_padded_not_mixed(tiny_model: LatentDiffusion) -> None:
    cond = tiny_model.conditioner([{"caption": "fox"}])
    assert cond.tokens is not None and cond.token_mask is not None
    kept = int(cond.token_mask.sum())
    short = Conditioning(cond.vector, cond.tokens[:, :kept])  # the same words, no padding, no mask
    x, level = torch.ones(1, 4, 8, 8), Level(0.5, 0.5, 0.5)

    one, other = answer([Question(x, level, short), Question(x, level, cond)], tiny_model.denoiser)

    torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-4)


def test_a_new_job_has_its_first_step_within_two_of_a_long_one(alone: Generator) -> None:
    engine = engine_of(alone, batch=2)
    long, new = Heard(), Heard()
    engine.submit(Work("long", "tiny", FOX.replace(count=9, steps=20), long))
    for _ in range(5):
        engine.turn()

    engine.submit(Work("new", "tiny", FOX.replace(seed=3), new))
    engine.turn()

    assert new.steps == [(0, 1, 3)] and len(long.steps) == 10
    engine.turn()
    assert new.steps[1:] == [(0, 2, 3)] and len(long.steps) == 11  # it goes on beside it
    assert {picture for picture, _, _ in long.steps} == {0, 1}  # and no more of it is held than a call takes


def test_who_has_just_come_shares_the_first_call_with_newcomers_alone(alone: Generator) -> None:
    engine = engine_of(alone)
    long, one, other = Heard(), Heard(), Heard()
    engine.submit(Work("long", "tiny", FOX.replace(steps=9), long))
    engine.turn()
    engine.submit(Work("one", "tiny", FOX, one))
    engine.submit(Work("other", "tiny", FOX, other))

    rows = engine.rows
    engine.turn()
    assert [len(heard.steps) for heard in (long, one, other)] == [1, 1, 1] and engine.rows - rows == 2
    engine.turn()
    assert [len(heard.steps) for heard in (long, one, other)] == [2, 2, 2] and engine.rows - rows == 5


def test_other_shapes_take_turns(alone: Generator) -> None:
    engine = engine_of(alone)
    wide, square = Heard(), Heard()
    engine.submit(Work("wide", "tiny", FOX.replace(width=24, steps=6), wide))
    engine.submit(Work("square", "tiny", FOX.replace(steps=6), square))

    for _ in range(6):
        engine.turn()

    assert len(wide.steps) == len(square.steps) == 3


def test_cancelling_ends_a_job_before_its_next_step_and_no_other(alone: Generator) -> None:
    engine = engine_of(alone)
    first, second = Heard(), Heard()
    first.after_step = lambda: engine.cancel("first")
    engine.submit(Work("first", "tiny", FOX, first))
    engine.submit(Work("second", "tiny", FOX, second))

    while engine.turn():
        pass

    assert len(first.steps) == 1 and first.over and isinstance(first.error, Cancelled) and not first.pictures
    assert second.error is None and furthest(second.pictures[0], alone(FOX).images[0]) <= 1


def test_a_job_past_its_deadline_ends(alone: Generator) -> None:
    engine, late = engine_of(alone), Heard()
    engine.submit(Work("late", "tiny", FOX, late, deadline=0.0))

    engine.turn()

    assert isinstance(late.error, TimedOut) and not late.steps


def test_what_the_model_cannot_draw_ends_that_job_alone(alone: Generator) -> None:
    bad, good = run(engine_of(alone), FOX.replace(width=17), FOX)

    assert isinstance(bad.error, SpecError) and "multiples of 4" in str(bad.error)
    assert good.pictures


def test_when_a_call_fails_only_the_guilty_job_ends(alone: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Denoiser.forward

    def narrow(self: Denoiser, x: Tensor, level: Level, cond: Conditioning) -> Tensor:
        if len(x) > 2:  # one guided picture at a time fits
            raise torch.OutOfMemoryError("no room")
        return whole(self, x, level, cond)

    monkeypatch.setattr(Denoiser, "forward", narrow)
    wide = FOX.replace(scales={"label": 2.0}, label="fox")  # three rows

    heard = run(engine_of(alone), FOX, wide, FOX.replace(seed=8))

    assert [type(one.error) for one in heard] == [type(None), torch.OutOfMemoryError, type(None)]


def test_pictures_that_are_there_already_are_passed_over(alone: Generator) -> None:
    engine, heard = engine_of(alone), Heard()
    engine.submit(Work("again", "tiny", FOX.replace(count=3), heard, skip=frozenset({0, 2})))

    while engine.turn():
        pass

    assert list(heard.pictures) == [1]
    assert heard.pictures[1].tobytes() == alone(FOX.replace(seed=8)).images[0].tobytes()


def test_previews_are_what_a_generator_shows(alone: Generator) -> None:
    engine, heard = engine_of(alone), Heard(look=True)
    engine.submit(Work("seen", "tiny", FOX, heard))

    while engine.turn():
        pass

    assert heard.previews == [step.preview()[0] for step in alone.stream(FOX)]


def test_a_field_not_known_to_share_draws_by_calls_of_its_own(alone: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    from undiffuse.serving import drawing

    monkeypatch.setattr(drawing, "TOGETHER", drawing.TOGETHER - {"guidance_rescale"})
    strange = FOX.replace(guidance_rescale=0.5)
    assert set(Request.model_fields) >= drawing.TOGETHER
    assert shares(FOX) and not shares(strange) and shares(FOX.replace(guidance_rescale=0.0))
    engine = engine_of(alone)

    heard = run(engine, strange, FOX, strange.replace(count=2))

    assert heard[0].pictures[0].tobytes() == alone(strange).images[0].tobytes()
    assert heard[2].pictures[1].tobytes() == alone(strange.replace(seed=8)).images[0].tobytes()
    assert heard[1].pictures[0].tobytes() == alone(FOX).images[0].tobytes()


def test_jobs_of_other_loras_share_no_call_and_come_out_as_alone(tiny_model: LatentDiffusion, tmp_path: Path) -> None:
    layer = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_q"
    for name in ("one", "other"):
        shapes = {"down": (2, 64), "up": (64, 2)}
        save_file(
            {f"{layer}.lora_{part}.weight": normal(shape, name, part) for part, shape in shapes.items()},
            tmp_path / f"{name}.safetensors",
        )
    fresh = LatentDiffusion(tiny_model.codec, copy.deepcopy(tiny_model.denoiser), tiny_model.conditioner, tiny_model.spec)
    draw = Generator(fresh, device="cpu", precision="fp32", batch=1, lora_dir=tmp_path, tell=None)
    requests = [FOX.replace(prompt=f"a fox{tag}") for tag in ("", "<lora:one>", "<lora:other:0.5>", "<lora:one>", "")]
    expected = [draw(request).images[0] for request in requests]
    engine = engine_of(draw)

    heard = run(engine, *requests, FOX.replace(prompt="a fox<lora:none>"))

    assert isinstance(heard.pop().error, UsageError)
    for one, image in zip(heard, expected, strict=True):
        assert furthest(one.pictures[0], image) <= 1
    assert furthest(expected[0], expected[1]) > 1 < furthest(expected[1], expected[2])
    assert engine.rows / engine.calls == 5 / 3  # two pairs and one alone in every step


def test_jobs_with_the_seeds_of_other_programs_share_calls(alone: Generator) -> None:
    requests = [FOX.replace(seeds=seeds, solver="euler") for seeds in ("native", "diffusers", "comfyui", "webui-gpu")]
    requests.append(FOX.replace(variation=(5, 0.5), solver="euler"))
    engine = engine_of(alone)

    heard = run(engine, *requests)

    assert all(shares(request) for request in requests) and engine.rows / engine.calls > 2
    for one, request in zip(heard, requests, strict=True):
        assert furthest(one.pictures[0], alone(request).images[0]) <= 1


def test_a_model_that_is_being_loaded_is_waited_for(alone: Generator) -> None:
    there: list[Generator] = []
    engine, heard = Engine(lambda name: there[0] if there else None), Heard()
    engine.submit(Work("one", "tiny", FOX, heard))

    assert not engine.turn() and not heard.over
    there.append(alone)
    while engine.turn():
        pass
    assert heard.pictures and sampling.settle(FOX, alone.model) == heard.begun


def test_the_thread_draws_and_stops(alone: Generator) -> None:
    done, heard = threading.Event(), Heard()
    heard.ended = lambda error: done.set()  # type: ignore[method-assign]
    engine = engine_of(alone)
    engine.start()
    engine.submit(Work("one", "tiny", FOX, heard))
    assert done.wait(30)
    engine.stop()
    assert heard.pictures


def test_a_listener_that_fails_ends_its_own_job_and_the_engine_goes_on(alone: Generator) -> None:
    broken, good = Heard(), Heard()

    def fail(*_: object) -> None:
        raise OSError("no space left")

    broken.finished = broken.ended = fail  # type: ignore[method-assign]
    engine = engine_of(alone)
    engine.submit(Work("broken", "tiny", FOX, broken))
    engine.submit(Work("good", "tiny", FOX, good))

    while engine.turn():
        pass

    assert good.pictures and good.error is None and not broken.over


def test_a_fault_in_a_turn_ends_the_jobs_not_the_thread(alone: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, ended = engine_of(alone), [threading.Event(), threading.Event()]
    first, second = Heard(), Heard()
    first.ended, second.ended = (lambda error: ended[0].set()), (lambda error: ended[1].set())  # type: ignore[method-assign]
    whole = Engine._picked

    def faulty(self: Engine) -> object:
        monkeypatch.setattr(Engine, "_picked", whole)
        raise KeyError("a fault of ours")

    monkeypatch.setattr(Engine, "_picked", faulty)
    engine.start()
    engine.submit(Work("first", "tiny", FOX, first))
    assert ended[0].wait(30) and not first.pictures
    engine.submit(Work("second", "tiny", FOX, second))
    assert ended[1].wait(30) and second.pictures
    engine.stop()


def test_a_batch_of_nothing_is_refused(alone: Generator) -> None:
    with pytest.raises(UsageError, match="batch = 0"):
        engine_of(alone, batch=0)


def test_a_favour_is_done_between_turns_and_its_errors_are_told(alone: Generator) -> None:
    engine = engine_of(alone)
    long = Heard()
    engine.submit(Work("long", "tiny", FOX, long))
    engine.turn()

    picture = engine.alone("tiny", lambda draw: draw(FOX).images[0])
    failing = engine.alone("tiny", lambda draw: draw(FOX.replace(label="whale")))
    assert engine.asked() == {"tiny"}
    while engine.turn():
        pass

    assert furthest(picture.result(0), long.pictures[0]) <= 1
    assert isinstance(failing.exception(0), SpecError)
