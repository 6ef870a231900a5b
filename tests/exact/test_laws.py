"""Laws of noise levels: what share of many draws lies below a level."""

from __future__ import annotations

import math

import pytest
import torch

from undiffuse.core.errors import SpecError
from undiffuse.diffusion.laws import LawSpec, draw_levels
from undiffuse.diffusion.schedule import ScheduleSpec, build_schedule

COUNT = 40_000
FLOW = build_schedule(ScheduleSpec(kind="flow"))
SHARES = [0.05, 0.25, 0.5, 0.8, 0.95]


def below(spec: LawSpec, u: float) -> float:
    levels = draw_levels(spec, FLOW, COUNT, "laws", 7)
    return float((levels.sigma < u).double().mean())


def tolerance(share: float) -> float:
    return 4.5 * math.sqrt(share * (1 - share) / COUNT)


@pytest.mark.parametrize("u", SHARES)
def test_uniform_draws_every_u_alike(u: float) -> None:
    assert below(LawSpec(kind="uniform"), u) == pytest.approx(u, abs=tolerance(u))


@pytest.mark.parametrize("u", SHARES)
@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (-0.5, 0.7)])
def test_the_logit_of_a_logit_normal_draw_is_normal(u: float, mean: float, std: float) -> None:
    """Esser et al. 2024, eq. 19."""
    standard = (math.log(u / (1 - u)) - mean) / std
    expected = 0.5 * (1 + math.erf(standard / math.sqrt(2)))
    assert below(LawSpec(kind="logit_normal", mean=mean, std=std), u) == pytest.approx(expected, abs=tolerance(expected))


def test_whole_steps_are_drawn_alike_on_a_discrete_schedule() -> None:
    schedule = build_schedule(ScheduleSpec(kind="cosine", steps=8))
    counts = torch.bincount(draw_levels(LawSpec(), schedule, COUNT, "laws", 1).t.long(), minlength=8)
    assert counts.sum() == COUNT
    assert (counts / COUNT - 1 / 8).abs().max() < tolerance(1 / 8)


def test_a_level_depends_on_its_path_alone() -> None:
    spec = LawSpec(kind="logit_normal")
    first = draw_levels(spec, FLOW, 4, "level", 3, 10)
    again = draw_levels(spec, FLOW, 4, "level", 3, 10)
    other = draw_levels(spec, FLOW, 4, "level", 3, 11)
    assert torch.equal(first.t, again.t)
    assert not torch.equal(first.t, other.t)


@pytest.mark.parametrize("std", [0.0, -1.0])
def test_a_law_without_spread_is_refused(std: float) -> None:
    with pytest.raises(SpecError, match=r"std = .*greater than 0"):
        LawSpec.parse({"kind": "logit_normal", "std": std})
