"""Schedules against the formulas and figures that their sources state."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from undiffuse.diffusion.schedule import DiscreteSchedule, ScheduleSpec, build_schedule, rescale_to_zero_snr

KINDS = ("linear", "scaled_linear", "cosine")


def discrete(kind: str, **options: object) -> DiscreteSchedule:
    schedule = build_schedule(ScheduleSpec.parse({"kind": kind, **options}))
    assert isinstance(schedule, DiscreteSchedule)
    return schedule


def product_of_kept_shares(betas: list[float]) -> list[float]:
    """alpha_t of Ho et al. 2020, eq. 4, one step after another."""
    alphas, kept = [], 1.0
    for beta in betas:
        kept *= 1 - beta
        alphas.append(math.sqrt(kept))
    return alphas


def test_linear_betas_rise_evenly() -> None:
    schedule = discrete("linear", beta_start=1e-4, beta_end=0.02)
    betas = [1e-4 + (0.02 - 1e-4) * t / 999 for t in range(1000)]
    np.testing.assert_allclose(schedule.alphas, product_of_kept_shares(betas), rtol=1e-12)


def test_scaled_linear_roots_of_betas_rise_evenly() -> None:
    schedule = discrete("scaled_linear", beta_start=0.0015, beta_end=0.0195, steps=200)
    low, high = math.sqrt(0.0015), math.sqrt(0.0195)
    betas = [(low + (high - low) * t / 199) ** 2 for t in range(200)]
    np.testing.assert_allclose(schedule.alphas, product_of_kept_shares(betas), rtol=1e-12)


@pytest.mark.parametrize(
    ("start", "end", "last_square", "last_ratio"),
    [
        (0.00085, 0.012, 0.00466, 14.615),  # Stable Diffusion 1, 2, XL
        (0.0015, 0.0195, 0.00014, 83.8),  # LDM on faces and bedrooms
        (0.0015, 0.0155, 0.00067, 38.7),  # LDM on churches
        (0.0015, 0.0205, 0.0001, 101.6),  # LDM inpainting
        (0.0001, 0.02, 0.00073, 36.9),  # Stable Diffusion's x4 upscaler
    ],
)
def test_the_schedules_of_released_models_end_where_they_should(
    start: float, end: float, last_square: float, last_ratio: float
) -> None:
    last = discrete("scaled_linear", beta_start=start, beta_end=end).at(999)
    assert last.alpha**2 == pytest.approx(last_square, abs=6e-6)
    assert last.sigma / last.alpha == pytest.approx(last_ratio, rel=1.5e-3)


def test_stable_diffusion_starts_at_its_smallest_ratio() -> None:
    first = discrete("scaled_linear").at(0)
    assert first.sigma / first.alpha == pytest.approx(0.0292, abs=5e-5)


def test_cosine_follows_its_curve_until_betas_are_capped() -> None:
    schedule = discrete("cosine")
    at_zero = math.cos(0.008 / 1.008 * math.pi / 2)
    curve = [math.cos(((t + 1) / 1000 + 0.008) / 1.008 * math.pi / 2) / at_zero for t in range(1000)]
    np.testing.assert_allclose(schedule.alphas[:-1], curve[:-1], rtol=1e-9)
    last_beta = 1 - (schedule.alphas[-1] / schedule.alphas[-2]) ** 2
    assert last_beta == pytest.approx(0.999, abs=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_discrete_schedules_preserve_variance_and_lose_signal_at_every_step(kind: str) -> None:
    schedule = discrete(kind)
    np.testing.assert_allclose(schedule.alphas**2 + schedule.sigmas**2, 1.0, rtol=1e-14)
    assert (np.diff(schedule.alphas) < 0).all()


def test_flow_is_a_straight_line() -> None:
    schedule = build_schedule(ScheduleSpec(kind="flow"))
    for u in (0.0, 0.25, 0.5, 1.0):
        level = schedule.level(u)
        assert (level.t, level.alpha, level.sigma) == (1000 * u, 1 - u, u)


@pytest.mark.parametrize("kind", KINDS)
def test_zero_terminal_snr_ends_without_signal_and_keeps_the_first_level(kind: str) -> None:
    plain, rescaled = discrete(kind), discrete(kind, zero_terminal_snr=True)
    assert rescaled.alphas[-1] == 0
    assert rescaled.sigmas[-1] == 1
    assert rescaled.zero_terminal_snr
    assert not plain.zero_terminal_snr
    assert rescaled.alphas[0] == pytest.approx(plain.alphas[0], rel=1e-14)


def test_zero_terminal_snr_is_an_affine_map_of_alpha() -> None:
    alphas = np.array([0.9, 0.7, 0.4, 0.1])
    np.testing.assert_allclose(rescale_to_zero_snr(alphas), (alphas - 0.1) * 0.9 / 0.8, rtol=1e-14)
    assert alphas[-1] == 0.1  # the argument is not written into


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("zero", [False, True])
def test_between_whole_steps_levels_stay_on_the_circle_and_in_order(kind: str, zero: bool) -> None:
    schedule = discrete(kind, zero_terminal_snr=zero)
    levels = [schedule.at(997 + i / 4) for i in range(9)]
    alphas = [level.alpha for level in levels]
    assert alphas == sorted(alphas, reverse=True)
    assert len(set(alphas)) == len(alphas)
    for level in levels:
        assert level.alpha**2 + level.sigma**2 == pytest.approx(1, rel=1e-14)


def test_half_way_between_two_steps_lies_their_geometric_mean() -> None:
    schedule = discrete("scaled_linear")
    first, second, half = schedule.at(400), schedule.at(401), schedule.at(400.5)
    assert half.alpha == pytest.approx(math.sqrt(first.alpha * second.alpha), rel=1e-14)


@pytest.mark.parametrize("kind", [*KINDS, "flow"])
@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize("u", [0.0, 0.003, 0.21, 0.5, 0.98, 0.9996, 1.0])
def test_a_level_is_found_again_by_its_ratio(kind: str, zero: bool, u: float) -> None:
    schedule = build_schedule(ScheduleSpec.parse({"kind": kind, "zero_terminal_snr": zero}))
    level = schedule.level(u)
    found = schedule.from_ratio(level.sigma / level.alpha if level.alpha else math.inf)
    assert found.t == pytest.approx(level.t, abs=1e-6)
    assert found.alpha == pytest.approx(level.alpha, abs=1e-12)
    assert found.sigma == pytest.approx(level.sigma, abs=1e-12)


def test_ratios_beyond_the_ends_give_the_ends() -> None:
    schedule = discrete("scaled_linear")
    assert schedule.from_ratio(1e-6) == schedule.at(0)
    assert schedule.from_ratio(1e6) == schedule.at(999)
    assert schedule.from_ratio(math.inf) == schedule.at(999)


@pytest.mark.parametrize("kind", KINDS)
def test_training_visits_every_whole_step_with_its_own_level(kind: str) -> None:
    schedule = discrete(kind, steps=50)
    levels = schedule.training_level(torch.arange(50) / 50 + 0.01)
    torch.testing.assert_close(levels.t, torch.arange(50.0))
    torch.testing.assert_close(levels.alpha, torch.from_numpy(schedule.alphas).float())
    torch.testing.assert_close(levels.sigma, torch.from_numpy(schedule.sigmas).float())


def test_training_may_draw_the_very_ends() -> None:
    ends = torch.tensor([0.0, 1.0])
    assert discrete("cosine").training_level(ends).t.tolist() == [0, 999]
    flow = build_schedule(ScheduleSpec(kind="flow")).training_level(ends)
    assert (flow.t.tolist(), flow.alpha.tolist(), flow.sigma.tolist()) == ([0, 1000], [1, 0], [0, 1])
