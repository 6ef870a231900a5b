"""What nets predict: targets by their definitions, the way back to x0, and the one pair that is refused."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from undiffuse.core.errors import SpecError
from undiffuse.core.random import normal
from undiffuse.diffusion.level import Level
from undiffuse.diffusion.prediction import PREDICTIONS, add_noise, check_prediction, target, to_noise, to_x0
from undiffuse.diffusion.schedule import ScheduleSpec, build_schedule

LEVELS = {
    "variance preserving": Level(3.0, 0.6, 0.8),
    "flow": Level(300.0, 0.7, 0.3),
    "variance exploding": Level(1.0, 1.0, 14.6),
    "nearly clean": Level(0.0, 0.99957, 0.0292),
}


@pytest.fixture
def pair() -> tuple[Tensor, Tensor]:
    return tuple(normal((5, 3, 2), "predictions", name).double() for name in ("x0", "noise"))


@pytest.mark.parametrize("level", LEVELS.values(), ids=LEVELS.keys())
@pytest.mark.parametrize("kind", PREDICTIONS)
def test_the_right_answer_of_every_kind_leads_back_to_x0(kind: str, level: Level, pair: tuple[Tensor, Tensor]) -> None:
    x0, noise = pair
    xt = add_noise(x0, noise, level)
    torch.testing.assert_close(to_x0(kind, target(kind, x0, noise, level), xt, level), x0, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("level", LEVELS.values(), ids=LEVELS.keys())
def test_the_noise_is_found_from_x0_and_xt(level: Level, pair: tuple[Tensor, Tensor]) -> None:
    x0, noise = pair
    torch.testing.assert_close(to_noise(x0, add_noise(x0, noise, level), level), noise, rtol=1e-11, atol=1e-11)


def test_targets_are_what_their_papers_say(pair: tuple[Tensor, Tensor]) -> None:
    x0, noise = pair
    level = Level(3.0, 0.6, 0.8)
    torch.testing.assert_close(target("eps", x0, noise, level), noise)
    torch.testing.assert_close(target("x0", x0, noise, level), x0)
    torch.testing.assert_close(target("v", x0, noise, level), 0.6 * noise - 0.8 * x0)
    torch.testing.assert_close(target("flow", x0, noise, level), noise - x0)


def test_scalar_levels_act_in_double_precision(pair: tuple[Tensor, Tensor]) -> None:
    x0, noise = pair
    level = Level(0.0, 0.1, 0.3)  # neither has an exact float32
    assert torch.equal(add_noise(x0, noise, level), 0.1 * x0 + 0.3 * noise)


def test_rows_may_have_levels_of_their_own(pair: tuple[Tensor, Tensor]) -> None:
    x0, noise = pair
    u = torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9], dtype=torch.float64)
    together = add_noise(x0, noise, Level(1000 * u, 1 - u, u))
    for row, share in enumerate(u.tolist()):
        torch.testing.assert_close(together[row], (1 - share) * x0[row] + share * noise[row], rtol=1e-14, atol=0)


@pytest.mark.parametrize("kind", ["x0", "v", "flow"])
def test_pure_noise_still_tells_x0_unless_noise_is_predicted(kind: str, pair: tuple[Tensor, Tensor]) -> None:
    x0, noise = pair
    level = Level(999.0, 0.0, 1.0)
    xt = add_noise(x0, noise, level)
    assert torch.equal(xt, noise)
    torch.testing.assert_close(to_x0(kind, target(kind, x0, noise, level), xt, level), x0)


@pytest.mark.parametrize("spec", [{"kind": "flow"}, {"kind": "scaled_linear", "zero_terminal_snr": True}])
def test_predicting_noise_where_there_is_nothing_else_is_refused(spec: dict[str, object]) -> None:
    schedule = build_schedule(ScheduleSpec.parse(spec))
    with pytest.raises(SpecError, match="ends at alpha = 0; there x0, v and flow are allowed; use v"):
        check_prediction("eps", schedule)
    for kind in ("x0", "v", "flow"):
        check_prediction(kind, schedule)


def test_predicting_noise_is_allowed_where_some_signal_is_left() -> None:
    schedule = build_schedule(ScheduleSpec(kind="cosine"))
    check_prediction("eps", schedule)
    with pytest.raises(SpecError, match="unknown prediction 'epsilon'; there are: eps, flow, v, x0"):
        check_prediction("epsilon", schedule)
