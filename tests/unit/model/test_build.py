"""Specs become models: every part gets the sizes that its spec names."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from tokenizers import Tokenizer

from undiffuse.conditioners.labels import LabelSpec
from undiffuse.conditioners.text import TextSpec
from undiffuse.core.conditioning import Conditioning
from undiffuse.core.errors import SpecError
from undiffuse.core.random import normal, uniform
from undiffuse.diffusion.level import Level
from undiffuse.diffusion.prediction import add_noise, target
from undiffuse.diffusion.schedule import FlowSchedule, ScheduleSpec, build_schedule
from undiffuse.model.build import build_denoiser, build_model, build_part
from undiffuse.model.denoiser import Denoiser
from undiffuse.model.latent_diffusion import LatentDiffusion
from undiffuse.model.spec import ModelSpec


def test_a_model_draws_what_its_spec_says(tiny_model: LatentDiffusion, tiny_spec: ModelSpec) -> None:
    assert tiny_model.spec == tiny_spec
    assert tiny_model.codec.factor == 2
    assert tiny_model.codec.channels == 4
    assert isinstance(tiny_model.schedule, FlowSchedule)
    cond = tiny_model.conditioner([{"caption": "fox", "label": "fox"}] * 2)
    z = tiny_model.denoiser(normal((2, 4, 8, 8), "build"), tiny_model.schedule.level(1.0), cond)
    assert tiny_model.codec.decode(z).shape == (2, 3, 16, 16)


def test_a_text_conditioner_needs_a_tokenizer() -> None:
    with pytest.raises(SpecError, match=r"a text conditioner without a tokenizer; it needs tokenizer\.json"):
        build_part(TextSpec(), None)


def test_a_tokenizer_of_another_size_is_refused(tiny_model: LatentDiffusion) -> None:
    tokenizer = tiny_model.conditioner.parts[0].tokenizer  # type: ignore[union-attr]
    assert isinstance(tokenizer, Tokenizer)
    with pytest.raises(SpecError, match=r"a tokenizer of \d+ pieces, an encoder of 30522"):
        build_part(TextSpec(), tokenizer)


def test_labels_need_no_tokenizer(tiny_spec: ModelSpec) -> None:
    labels = LabelSpec(classes=("fox", "boat"), width=8)
    changes = {"conditioners": (labels,), "denoiser": {"widths": (32, 32), "depths": (0, 0), "vector_width": 8}}
    model = build_model(ModelSpec.parse(tiny_spec.model_dump() | changes))
    assert model.conditioner.fields == ("label",)


def test_an_unconditional_model_has_two_parts(tiny_spec: ModelSpec) -> None:
    changes = {"conditioners": (), "denoiser": {"widths": (32, 32), "depths": (0, 0)}}
    model = build_model(ModelSpec.parse(tiny_spec.model_dump() | changes))
    assert model.parts().keys() == {"autoencoder", "denoiser"}
    assert len(model.conditioner([{}, {}])) == 0


def test_a_fresh_denoiser_predicts_zero(tiny_spec: ModelSpec) -> None:
    x = normal((1, 4, 8, 8), "build")
    cond = Conditioning(vector=torch.ones(1, 24), tokens=torch.ones(1, 3, 16))
    fresh = build_denoiser(tiny_spec)
    torch.testing.assert_close(fresh(x, fresh.schedule.level(0.5), cond), x)  # flow: x0 = xt - sigma * 0


class Oracle(torch.nn.Module):
    """Knows the clean latent and the noise, and answers what a perfect net would."""

    def __init__(self, kind: str, x0: torch.Tensor, noise: torch.Tensor, levels: Level) -> None:
        super().__init__()
        self.answer = torch.nn.Parameter(target(kind, x0, noise, levels))
        self.levels = levels

    def forward(self, x: torch.Tensor, t: torch.Tensor, cond: Conditioning) -> torch.Tensor:
        torch.testing.assert_close(t, self.levels.t)
        return self.answer


@pytest.mark.parametrize("kind", ["eps", "x0", "v", "flow"])
def test_whatever_a_net_predicts_the_denoiser_answers_with_the_clean_latent(kind: str) -> None:
    schedule = build_schedule(ScheduleSpec(kind="scaled_linear"))
    x0, noise = normal((3, 4, 2, 2), "x0"), normal((3, 4, 2, 2), "noise")
    levels = schedule.training_level(uniform((3,), "u"))
    denoiser = Denoiser(Oracle(kind, x0, noise, levels), schedule, kind)
    torch.testing.assert_close(denoiser(add_noise(x0, noise, levels), levels, Conditioning()), x0, atol=1e-4, rtol=1e-4)


class Listener(torch.nn.Module):
    """Keeps what a net is told."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1, dtype=torch.bfloat16))

    def forward(self, x: torch.Tensor, t: torch.Tensor, cond: Conditioning) -> torch.Tensor:
        self.heard = (x, t, cond)
        return x


def test_a_net_in_bf16_hears_bf16_but_the_exact_time_and_answers_in_float32() -> None:
    listener = Listener()
    schedule = build_schedule(ScheduleSpec(kind="flow"))
    x, cond = normal((2, 4, 2, 2), "x"), Conditioning(tokens=torch.ones(2, 1, 3), token_mask=torch.ones(2, 1, dtype=torch.bool))
    x0 = Denoiser(listener, schedule, "x0")(x, schedule.at(999.0), cond)
    heard, t, told = listener.heard
    assert x0.dtype == torch.float32
    assert heard.dtype == told.tokens.dtype == torch.bfloat16  # type: ignore[union-attr]
    assert told.token_mask is not None
    assert told.token_mask.dtype == torch.bool
    assert t.tolist() == [999.0, 999.0]


def test_the_record_is_frozen(tiny_model: LatentDiffusion) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        tiny_model.spec = None  # type: ignore[misc, assignment]
