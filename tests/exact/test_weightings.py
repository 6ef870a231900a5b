"""Loss weightings: a weight is a factor on the squared error of x0, whatever the net predicts."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from undiffuse.core.conditioning import Conditioning
from undiffuse.core.errors import SpecError
from undiffuse.core.random import normal
from undiffuse.diffusion.level import Level
from undiffuse.diffusion.loss import denoising_loss
from undiffuse.diffusion.prediction import PREDICTIONS, add_noise, to_noise
from undiffuse.diffusion.weighting import WeightingSpec, weight

CIRCLE = torch.tensor([0.05, 0.4, 0.7, 1.2, 1.5], dtype=torch.float64)
LINE = torch.tensor([0.02, 0.3, 0.5, 0.8, 0.99], dtype=torch.float64)
LEVELS = {
    "variance preserving": Level(1000 * CIRCLE, CIRCLE.cos(), CIRCLE.sin()),
    "flow": Level(1000 * LINE, 1 - LINE, LINE),
}
EVERY_LEVEL = pytest.mark.parametrize("level", LEVELS.values(), ids=LEVELS.keys())
EVERY_PREDICTION = pytest.mark.parametrize("prediction", PREDICTIONS)


def rows(name: str) -> Tensor:
    return normal((5, 2, 3), "weightings", name).double()


def answer(prediction: str, estimate: Tensor, xt: Tensor, level: Level) -> Tensor:
    """What a net says that believes in this x0."""
    alpha, sigma = (value.view(-1, 1, 1) for value in (level.alpha, level.sigma))
    eps = to_noise(estimate, xt, level)
    return {"eps": eps, "x0": estimate, "v": alpha * eps - sigma * estimate, "flow": eps - estimate}[prediction]


def loss_of(prediction: str, spec: WeightingSpec, level: Level) -> tuple[Tensor, Tensor]:
    """The loss of a net that is wrong about x0, and the squared error of its x0: (B,) each."""
    x0, noise, estimate = rows("x0"), rows("noise"), rows("estimate")

    def net(xt: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        return answer(prediction, estimate, xt, level)

    loss = denoising_loss(net, x0, Conditioning(), level, noise, prediction, spec)
    return loss, (estimate - x0).square().flatten(1).mean(1)


@EVERY_PREDICTION
@EVERY_LEVEL
def test_snr_weighting_is_the_snr_times_the_error_of_x0(prediction: str, level: Level) -> None:
    loss, error = loss_of(prediction, WeightingSpec(kind="snr"), level)
    torch.testing.assert_close(loss, (level.alpha / level.sigma) ** 2 * error, rtol=1e-5, atol=0)


@EVERY_PREDICTION
@EVERY_LEVEL
@pytest.mark.parametrize("gamma", [1.0, 5.0])
def test_min_snr_cuts_the_snr_off_at_gamma(prediction: str, level: Level, gamma: float) -> None:
    """Hang et al. 2023, eq. 8."""
    loss, error = loss_of(prediction, WeightingSpec(kind="min_snr", gamma=gamma), level)
    torch.testing.assert_close(loss, ((level.alpha / level.sigma) ** 2).clamp(max=gamma) * error, rtol=1e-5, atol=0)


@EVERY_PREDICTION
@EVERY_LEVEL
def test_uniform_weighting_is_the_plain_error_of_the_net(prediction: str, level: Level) -> None:
    loss, _ = loss_of(prediction, WeightingSpec(kind="uniform"), level)
    xt = add_noise(rows("x0"), rows("noise"), level)
    wrong = answer(prediction, rows("estimate"), xt, level)
    right = answer(prediction, rows("x0"), xt, level)
    torch.testing.assert_close(loss, (wrong - right).square().flatten(1).mean(1), rtol=1e-9, atol=0)


@EVERY_LEVEL
def test_predicting_noise_is_snr_weighted_by_itself(level: Level) -> None:
    """Ho et al. 2020: the simple loss on eps is the SNR-weighted one on x0."""
    torch.testing.assert_close(weight(WeightingSpec(kind="snr"), level, "eps"), torch.ones(5, dtype=torch.float64))


def test_predicting_v_is_weighted_by_snr_plus_one_by_itself() -> None:
    """Salimans & Ho 2022, section 4: the plain loss on v is (SNR + 1) on x0, on the circle."""
    loss, error = loss_of("v", WeightingSpec(kind="uniform"), LEVELS["variance preserving"])
    torch.testing.assert_close(loss, (1 / CIRCLE.tan() ** 2 + 1) * error, rtol=1e-9, atol=0)


@pytest.mark.parametrize(
    ("prediction", "at_clean", "at_noise"),
    [("eps", 0.0, 1.0), ("x0", 5.0, 0.0), ("v", 0.0, 0.0), ("flow", 0.0, 0.0)],
)
def test_min_snr_has_its_limits_at_both_ends(prediction: str, at_clean: float, at_noise: float) -> None:
    """Where sigma or alpha is 0, no weight is 0 / 0; uniform draws do come there."""
    ends = Level(torch.tensor([0.0, 1000.0]), torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]))
    assert weight(WeightingSpec(kind="min_snr"), ends, prediction).tolist() == [at_clean, at_noise]


def test_the_net_is_told_the_time_and_sees_the_noised_picture() -> None:
    level = LEVELS["flow"]
    seen = []

    def net(xt: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        seen.extend((xt, t, cond))
        return torch.zeros_like(xt)

    cond = Conditioning(vector=torch.ones(5, 2))
    denoising_loss(net, rows("x0"), cond, level, rows("noise"), "flow", WeightingSpec())
    xt, t, told = seen
    share = LINE.view(-1, 1, 1)
    torch.testing.assert_close(xt, (1 - share) * rows("x0") + share * rows("noise"))
    torch.testing.assert_close(t, 1000 * LINE, rtol=1e-6, atol=0)
    assert told is cond


@pytest.mark.parametrize("gamma", [0.0, -5.0])
def test_a_gamma_that_switches_the_loss_off_or_turns_it_round_is_refused(gamma: float) -> None:
    with pytest.raises(SpecError, match=r"gamma = .*greater than 0"):
        WeightingSpec.parse({"kind": "min_snr", "gamma": gamma})
