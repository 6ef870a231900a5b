"""What a user can get wrong in a schedule, a law, a weighting or a level."""

from __future__ import annotations

import math

import pytest
import torch

from undiffuse.core.errors import SpecError
from undiffuse.diffusion.laws import LawSpec
from undiffuse.diffusion.level import Level
from undiffuse.diffusion.schedule import ScheduleSpec
from undiffuse.diffusion.weighting import WeightingSpec
from undiffuse.model.spec import ModelSpec


@pytest.mark.parametrize(
    ("raw", "named"),
    [
        ({"kind": "quadratic"}, "kind = 'quadratic'"),
        ({"kind": "linear", "beta_start": 0.0}, "beta_start = 0.0"),
        ({"kind": "linear", "beta_end": 1.0}, "beta_end = 1.0"),
        ({"kind": "cosine", "steps": 1}, "steps = 1"),
        ({"kind": "flow", "shift": 3.0}, "shift: unknown key"),
        ({}, "kind: missing"),
    ],
)
def test_wrong_schedules_are_refused_by_key(raw: dict[str, object], named: str) -> None:
    with pytest.raises(SpecError, match=named):
        ScheduleSpec.parse(raw)


@pytest.mark.parametrize(("spec", "allowed"), [(LawSpec, "'uniform' or 'logit_normal'"), (WeightingSpec, "'snr' or 'min_snr'")])
def test_unknown_laws_and_weightings_are_refused_with_the_known_ones(spec, allowed: str) -> None:
    with pytest.raises(SpecError, match=allowed):
        spec.parse({"kind": "edm"})


def test_a_model_that_predicts_noise_from_pure_noise_is_refused_when_its_spec_is_built(tiny_spec: ModelSpec) -> None:
    raw = tiny_spec.model_dump()
    raw["prediction"] = "eps"
    with pytest.raises(SpecError, match="prediction 'eps' on a schedule that ends at alpha = 0"):
        ModelSpec.parse(raw)


def test_scalar_levels_spread_over_a_batch() -> None:
    level = Level(7.0, 0.6, 0.8).expand(3)
    assert level.t.tolist() == [7, 7, 7]
    torch.testing.assert_close(level.alpha, torch.full((3,), 0.6))
    assert level.sigma.dtype == torch.float32


def test_levels_are_shaped_to_multiply_pictures() -> None:
    pictures = torch.ones(2, 3, 4, 4)
    alpha, sigma = Level(torch.tensor([1.0, 2.0]), torch.tensor([0.6, 1.0]), torch.tensor([0.8, 0.0])).view(pictures)
    assert alpha.shape == sigma.shape == (2, 1, 1, 1)
    assert (sigma * pictures)[1].abs().max() == 0


def test_snr_is_signal_over_noise_and_infinite_when_clean() -> None:
    assert Level(0.0, 0.6, 0.8).snr == pytest.approx(0.5625)
    assert Level(0.0, 1.0, 0.0).snr == math.inf
    rows = Level(torch.zeros(2), torch.tensor([0.6, 1.0]), torch.tensor([0.8, 0.0])).snr
    torch.testing.assert_close(rows, torch.tensor([0.5625, math.inf]))
