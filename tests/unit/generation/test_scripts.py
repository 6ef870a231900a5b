"""Prompts that change on the way and several prompts at once: every query is answered with what it should be told."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from undiffuse.conditioners.clip import CLIPConditioner, CLIPEncoderSpec, CLIPSpec
from undiffuse.core.conditioning import Conditioning
from undiffuse.core.errors import SpecError
from undiffuse.core.random import START, PictureNoise, normal
from undiffuse.diffusion.drive import steps
from undiffuse.diffusion.grid import Grid
from undiffuse.diffusion.guidance import classifier_free
from undiffuse.diffusion.level import Level
from undiffuse.diffusion.solvers.euler import euler
from undiffuse.generation.generator import Generator
from undiffuse.generation.hires import Hires
from undiffuse.generation.request import Request
from undiffuse.generation.sample import grid_of, sample, settle
from undiffuse.generation.scripts import BLANK, Script, Words, scripts_of
from undiffuse.model.build import build_model
from undiffuse.model.latent_diffusion import LatentDiffusion
from undiffuse.model.spec import ModelSpec

SIDE = 8  # of a latent
FOX = Request("a fox", seed=3, steps=6, guidance=3.0, solver="euler")
NEAR = {"rtol": 1e-3, "atol": 1e-3}  # what another batch size does to a sum of float32; other texts differ by far more
TEXTS = ["a fox", "a river", "stone", "red", "nothing", "blur", "fog", "", BLANK, "a ", "b ", "c "]


def read_by_clip(spec: ModelSpec, **parts: object) -> LatentDiffusion:
    """A model with random weights that reads prompts as Stable Diffusion does, and whatever else."""
    clip = CLIPSpec(encoders=(CLIPEncoderSpec(width=16, layers=2, heads=2),))
    net = spec.denoiser.model_dump() | {"vector_width": 8 if parts else None}
    told = [clip.model_dump(), *parts.values()]
    model = build_model(ModelSpec.parse(spec.model_dump(mode="json") | {"conditioners": told, "denoiser": net}))
    with torch.no_grad():
        for name, part in model.parts().items():
            for key, weight in part.named_parameters():
                weight.add_(0.2 * normal(weight.shape, "scripts", name, key))
    return model.eval()


@pytest.fixture(scope="module")
def model(tiny_spec: ModelSpec) -> LatentDiffusion:
    return read_by_clip(tiny_spec)


class Spy:
    """The model's denoiser, and the texts that it was told in every call, row by row."""

    def __init__(self, model: LatentDiffusion, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[list[str]] = []
        self.known = {text: embedded(model, text)[0] for text in TEXTS}
        network = model.denoiser.network
        forward = network.forward

        def spied(x: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
            assert cond.tokens is not None
            self.calls.append([self.named(row) for row in cond.tokens])
            return forward(x, t, cond)

        monkeypatch.setattr(network, "forward", spied)

    def named(self, tokens: Tensor) -> str:
        return next(text for text, known in self.known.items() if torch.equal(known, tokens)).strip()


def embedded(model: LatentDiffusion, *texts: str) -> Tensor:
    tokens = model.conditioner([{"caption": text} for text in texts]).tokens
    assert tokens is not None
    return tokens


def latent(model: LatentDiffusion, *requests: Request) -> Tensor:
    """The finished latents (B, C, h, w) of requests that are drawn together."""
    settled = [settle(request, model) for request in requests]
    return list(sample(settled, model))[-1].x


def by_hand(model: LatentDiffusion, x: Tensor, levels: Sequence[Level], prompt: str, negative: str = "") -> Tensor:
    """Euler's steps over these levels with one prompt."""
    guided = classifier_free(model.denoiser, Conditioning(tokens=embedded(model, negative)), FOX.guidance)
    grid = Grid(tuple(levels), model.schedule)
    with torch.no_grad():
        *_, last = steps(euler(x, grid, lambda step: x), guided, Conditioning(tokens=embedded(model, prompt)))
    return last.x


def start(model: LatentDiffusion, request: Request = FOX) -> Tensor:
    return grid_of(request, model)[0].sigma * PictureNoise(request.seed, (0,), (4, SIDE, SIDE))(START)


def test_an_edit_is_two_halves_driven_by_hand(model: LatentDiffusion) -> None:
    """After half of six steps: as in the web UI the fourth is the last of the first text."""
    levels = grid_of(FOX, model).levels
    half = by_hand(model, start(model), levels[:5], "a fox")
    expected = by_hand(model, half, levels[4:], "a river")
    found = latent(model, FOX.replace(prompt="a [fox:river:0.5]"))
    torch.testing.assert_close(found, expected, **NEAR)
    torch.testing.assert_close(latent(model, FOX.replace(prompt="a [fox:river:3]")), found, **NEAR)
    for other in ("a fox", "a river", "a [fox:river:2]", "a [fox:river:4]"):
        assert (latent(model, FOX.replace(prompt=other)) - found).abs().max() > 0.02


def test_a_negative_prompt_changes_on_the_way_too(model: LatentDiffusion) -> None:
    levels = grid_of(FOX, model).levels
    half = by_hand(model, start(model), levels[:3], "a fox", "blur")
    expected = by_hand(model, half, levels[2:], "a fox", "fog")
    found = latent(model, FOX.replace(negative="[blur:fog:1]"))
    torch.testing.assert_close(found, expected, **NEAR)


def test_a_solver_that_asks_twice_in_a_step_is_told_the_same_twice(
    model: LatentDiffusion, monkeypatch: pytest.MonkeyPatch
) -> None:
    spy = Spy(model, monkeypatch)
    latent(model, FOX.replace(prompt="[a fox|a river|stone]", negative="[red:nothing:2]", steps=5, solver="heun"))
    told = [("red", "a fox")] * 3 + [("red", "a river")] * 2 + [("nothing", "stone")] * 2 + [("nothing", "a fox")]
    assert [tuple(call) for call in spy.calls] == told  # the steps out of pure noise and into the clean level ask once


def test_every_text_is_embedded_once(model: LatentDiffusion, monkeypatch: pytest.MonkeyPatch) -> None:
    encode, found = CLIPConditioner.encode, []

    def counted(part: CLIPConditioner, caption: str, *options: object) -> Conditioning:
        found.append(caption)
        return encode(part, caption, *options)  # type: ignore[arg-type]

    monkeypatch.setattr(CLIPConditioner, "encode", counted)
    monkeypatch.setattr("undiffuse.conditioners.clip.REMEMBERED", 1)
    model.conditioner.forget()
    one, other = "[ra|rb|rc|rd] AND [se|sf]", "[tg|th|ti|tj|tk]"
    latent(model, FOX.replace(prompt=one, negative="[ul|um]", steps=20), FOX.replace(prompt=other, steps=20))
    assert sorted(text.strip() for text in found) == ["", *"ra rb rc rd se sf tg th ti tj tk ul um".split()]


def test_pictures_of_a_batch_have_scripts_of_their_own(model: LatentDiffusion) -> None:
    batch = [
        FOX.replace(prompt="a [fox:river:0.5]", negative="[blur:fog:2]"),
        FOX.replace(prompt="a [fox|river] AND stone :0.7 AND red :-0.4", seed=4),
        FOX.replace(prompt="a [fox|river]", seed=5, context={"grammar": "comfyui"}),
        FOX.replace(prompt="stone", seed=6),
    ]
    together = latent(model, *batch)
    for row, request in enumerate(batch):
        torch.testing.assert_close(together[row : row + 1], latent(model, request), **NEAR)


def test_several_prompts_are_added_up(model: LatentDiffusion) -> None:
    """One step of Euler's into the clean level is the estimate itself: uncond + sum of scale * w * (cond - uncond)."""
    one = FOX.replace(prompt="a fox AND a river :1.2 AND stone :-0.5", negative="blur", steps=1)
    x, level = start(model, one), grid_of(one, model)[0]
    with torch.no_grad():
        answers = [model.denoiser(x, level, Conditioning(tokens=embedded(model, t))) for t in ("blur", *TEXTS[:3])]
    for scale in (3.0, 1.0):
        expected = answers[0]
        for weight, answer in zip((1.0, 1.2, -0.5), answers[1:], strict=True):
            expected = expected + scale * weight * (answer - answers[0])
        torch.testing.assert_close(latent(model, one.replace(guidance=scale)), expected, **NEAR)


@pytest.mark.parametrize("prompt", ["a fox AND a fox :0", "a fox :0.25 AND a fox :0.75", "a fox AND a river :0"])
def test_weights_that_come_to_one_prompt_are_that_prompt(prompt: str, model: LatentDiffusion) -> None:
    torch.testing.assert_close(latent(model, FOX.replace(prompt=prompt)), latent(model, FOX), **NEAR)


def test_steps_count_from_where_a_picture_is_taken_up(model: LatentDiffusion, monkeypatch: pytest.MonkeyPatch) -> None:
    photo = Image.effect_noise((16, 16), 60).convert("RGB")
    mask = Image.new("L", (16, 16))
    mask.paste(255, (0, 0, 8, 16))
    spy = Spy(model, monkeypatch)
    latent(model, FOX.replace(prompt="a [fox:river:1]", image=photo, strength=0.5))
    assert [call[1] for call in spy.calls] == ["a fox", "a fox", "a river"]
    spy.calls.clear()
    latent(model, FOX.replace(prompt="a [fox:river:3]", image=photo, mask=mask, fill="known"))
    assert [call[1] for call in spy.calls] == ["a fox"] * 4 + ["a river"] * 2


def test_a_change_before_the_first_step_is_made(model: LatentDiffusion) -> None:
    torch.testing.assert_close(latent(model, FOX.replace(prompt="a [river:fox:0]")), latent(model, FOX), **NEAR)


def test_a_second_pass_goes_on_with_the_words(model: LatentDiffusion, monkeypatch: pytest.MonkeyPatch) -> None:
    spy = Spy(model, monkeypatch)
    twice = FOX.replace(steps=3, hires=Hires(scale=2, steps=4))

    def told(prompt: str) -> list[str]:
        spy.calls.clear()
        latent(model, twice.replace(prompt=prompt))
        return [call[1] for call in spy.calls]

    assert told("a [fox:river:0.5]") == ["a fox"] * 2 + ["a river"] * 5
    assert told("a [fox:river:1.5]") == ["a fox"] * 6 + ["a river"]
    assert told("a [fox:river:4]") == ["a fox"] * 5 + ["a river"] * 2


def test_a_script_is_read_from_both_prompts() -> None:
    script = Script.of(Request("[a:b:0.5] AND c :2", negative="[|d]", steps=2))
    assert script == Script((((1, "a"), (2, "b")), ((2, " c"),)), (1.0, 2.0), ((1, BLANK), (2, "d")))
    assert [script.at(index) for index in (0, 1, 2, 9)] == [
        Words(("a", " c"), BLANK),
        Words(("a", " c"), BLANK),
        Words(("b", " c"), "d"),
        Words(("b", " c"), "d"),
    ]
    assert Script.of(Request("", steps=2)) == Script.plain(Request("", steps=2))


def test_other_grammars_and_other_models_take_words_as_they_stand(model: LatentDiffusion, tiny_model: LatentDiffusion) -> None:
    one = FOX.replace(prompt="a [fox:river:0.5] AND b", negative="[a|b]")
    assert scripts_of([FOX, FOX.replace(prompt="a (fox:1.3) [at] sea:2")], model) is None
    assert scripts_of([one], model) is not None and scripts_of([one], tiny_model) is None
    assert scripts_of([one.replace(context={"grammar": "plain"})], model) is None
    assert scripts_of([one.replace(context={"grammar": "comfyui"})], model) is None


def test_drawing_again_gives_the_same_pixels(model: LatentDiffusion) -> None:
    draw = Generator(model, device="cpu", precision="fp32", tell=None)
    one = FOX.replace(prompt="a [fox|river] AND [:stone:0.4]")
    first, again, plain = (np.asarray(draw(request).images[0]) for request in (one, one, FOX))
    assert (first == again).all() and (first != plain).any()


def test_several_prompts_need_guidance_to_speak_last(tiny_spec: ModelSpec) -> None:
    model = read_by_clip(tiny_spec, label=tiny_spec.conditioners[1].model_dump())
    one = FOX.replace(prompt="a fox AND a river", label="boat")
    assert latent(model, one.replace(scales={"label": 2.0})).isfinite().all()
    with pytest.raises(SpecError, match=r"\(AND\) with a scale for clip beside label; .*; give label a scale\."):
        settle(one.replace(scales={"clip": 2.0}), model)
    assert settle(one.replace(prompt="a fox", scales={"clip": 2.0}), model).prompt == "a fox"
