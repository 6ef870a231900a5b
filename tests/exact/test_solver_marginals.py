"""Stochastic solvers draw from the law of the data: mean and variance of many one-dimensional samples."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from undiffuse.core.conditioning import Conditioning
from undiffuse.core.errors import SpecError
from undiffuse.core.random import normal
from undiffuse.diffusion.drive import drive
from undiffuse.diffusion.grid import make_grid
from undiffuse.diffusion.schedule import ScheduleSpec, build_schedule
from undiffuse.diffusion.solvers.ddim import ddim
from undiffuse.diffusion.solvers.ddpm import ddpm
from undiffuse.diffusion.solvers.dpm2 import dpm_2_ancestral
from undiffuse.diffusion.solvers.dpmpp import dpmpp_2s_ancestral
from undiffuse.diffusion.solvers.dpmpp_sde import dpmpp_2m_sde, dpmpp_3m_sde, dpmpp_sde
from undiffuse.diffusion.solvers.euler import euler, euler_ancestral
from undiffuse.diffusion.solvers.heun import heun
from undiffuse.diffusion.solvers.restart import restart

COUNT = 20_000
STANDARD_ERRORS = 4.5

SOLVERS = {
    "ddpm": (ddpm, {}, 1000),
    "ddim eta 1": (ddim, {"eta": 1.0}, 1000),
    "ddim eta 0.5": (ddim, {"eta": 0.5}, 1000),
    "euler ancestral": (euler_ancestral, {}, 1000),
    "euler with churn": (euler, {"s_churn": 30.0}, 1000),
    "heun with churn": (heun, {"s_churn": 20.0, "s_tmin": 0.05, "s_tmax": 50.0}, 200),
    "dpm2 ancestral": (dpm_2_ancestral, {}, 200),
    "dpmpp 2s ancestral": (dpmpp_2s_ancestral, {}, 200),
    "dpmpp sde": (dpmpp_sde, {}, 250),
    "dpmpp 2m sde": (dpmpp_2m_sde, {}, 150),
    "dpmpp 2m sde eta 0.5": (dpmpp_2m_sde, {"eta": 0.5}, 150),
    "dpmpp 2m sde heun": (dpmpp_2m_sde, {"rule": "heun"}, 150),
    "dpmpp 3m sde": (dpmpp_3m_sde, {}, 150),
    "restart": (restart, {"times": 2}, 200),
}
"""With the steps that leave less than the statistics show; first order needs more."""
SCHEDULES = {
    "stable diffusion": ScheduleSpec(kind="scaled_linear"),
    "zero terminal snr": ScheduleSpec(kind="scaled_linear", zero_terminal_snr=True),
    "flow": ScheduleSpec(kind="flow"),
}


def fresh(step: int) -> Tensor:
    return normal((COUNT,), "marginals", step).double()


@pytest.mark.parametrize(("solver", "options", "steps"), SOLVERS.values(), ids=SOLVERS.keys())
@pytest.mark.parametrize("spec", SCHEDULES.values(), ids=SCHEDULES.keys())
def test_samples_have_the_mean_and_variance_of_the_data(gaussian, spec: ScheduleSpec, solver, options, steps) -> None:
    data = gaussian(1.2, 0.5)
    grid = make_grid(build_schedule(spec), steps, "trailing")
    start = grid[0].alpha * data.mean + data.spread(grid[0]) * fresh(-1)
    drawn = drive(solver(start, grid, fresh, **options), data.denoise, Conditioning())

    assert float(drawn.mean()) == pytest.approx(1.2, abs=STANDARD_ERRORS * 0.5 / math.sqrt(COUNT))
    assert float(drawn.var()) == pytest.approx(0.25, abs=STANDARD_ERRORS * 0.25 * math.sqrt(2 / COUNT))


@pytest.mark.parametrize("solver", [ddpm, euler_ancestral], ids=["ddpm", "euler ancestral"])
def test_fresh_noise_washes_out_where_the_samples_started(gaussian, solver) -> None:
    """The start decides an ODE's end; an ancestral solver forgets it."""
    data = gaussian(1.2, 0.5)
    grid = make_grid(build_schedule(SCHEDULES["stable diffusion"]), 250, "trailing")
    start = fresh(-1)
    end = drive(solver(start, grid, fresh), data.denoise, Conditioning())
    assert abs(float(torch.corrcoef(torch.stack([start, end]))[0, 1])) < 0.1
    kept = drive(ddim(start, grid, fresh), data.denoise, Conditioning())
    assert float(torch.corrcoef(torch.stack([start, kept]))[0, 1]) > 0.999


def test_one_ddpm_step_draws_from_the_posterior() -> None:
    """q(x_s | x_t, x0) is normal; its mean and variance here by conditioning the joint law of (x_s, x_t) given x0."""
    grid = make_grid(build_schedule(SCHEDULES["stable diffusion"]), 4, "trailing")
    (now, nxt), *_ = grid.pairs()
    x0, xt = 0.4, -1.1
    covariance = now.alpha / nxt.alpha * nxt.sigma**2  # x_t = (alpha_t / alpha_s) x_s + independent noise
    mean = nxt.alpha * x0 + covariance / now.sigma**2 * (xt - now.alpha * x0)
    deviation = math.sqrt(nxt.sigma**2 - covariance**2 / now.sigma**2)

    for z in (0.0, 1.0, -2.0):
        noise = torch.tensor([z], dtype=torch.float64)
        solver = ddpm(torch.tensor([xt], dtype=torch.float64), grid, lambda step, noise=noise: noise)
        next(solver)
        following = solver.send(torch.tensor([x0], dtype=torch.float64))
        assert float(following.x) == pytest.approx(mean + deviation * z, rel=1e-12)


def test_one_ancestral_step_is_the_one_of_k_diffusion() -> None:
    """In y = x / alpha and s = sigma / alpha: down to s_down along the slope, then up by s_up."""
    grid = make_grid(build_schedule(SCHEDULES["stable diffusion"]), 4, "trailing")
    (now, nxt), *_ = grid.pairs()
    s, s_next = now.sigma / now.alpha, nxt.sigma / nxt.alpha
    s_up = math.sqrt(s_next**2 * (s**2 - s_next**2) / s**2)
    s_down = math.sqrt(s_next**2 - s_up**2)
    y, x0, z = -3.0, 0.4, 0.7
    expected = y + (y - x0) / s * (s_down - s) + s_up * z

    noise = torch.tensor([z], dtype=torch.float64)
    solver = euler_ancestral(torch.tensor([y * now.alpha], dtype=torch.float64), grid, lambda step: noise)
    next(solver)
    following = solver.send(torch.tensor([x0], dtype=torch.float64))
    assert float(following.x) / nxt.alpha == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("eta", [-0.1, 1.1, math.nan])
def test_more_fresh_noise_than_there_is_noise_is_refused(eta: float) -> None:
    grid = make_grid(build_schedule(SCHEDULES["stable diffusion"]), 4, "trailing")
    with pytest.raises(SpecError, match=r"eta = .*; 0 \(the ODE\) to 1 \(DDPM\) is allowed"):
        next(ddim(torch.zeros(1), grid, fresh, eta=eta))


def test_one_churned_step_is_the_one_of_karras_et_al() -> None:
    """Algorithm 2 in y = x / alpha and s = sigma / alpha: up to s (1 + gamma) by S_noise, then Euler from there."""
    grid = make_grid(build_schedule(SCHEDULES["stable diffusion"]), 4, "trailing")
    (now, nxt), *_ = grid.pairs()
    s, s_next, y, z = now.ratio, nxt.ratio, -3.0, 0.7
    s_hat = s * (1 + min(0.4 / 4, math.sqrt(2) - 1))
    y_hat = y + math.sqrt(s_hat**2 - s**2) * 1.1 * z
    expected = y_hat + (s_next - s_hat) * (y_hat - 0.4) / s_hat

    noise = torch.tensor([z], dtype=torch.float64)
    start = torch.tensor([y * now.alpha], dtype=torch.float64)
    solver = euler(start, grid, lambda step: noise, s_churn=0.4, s_noise=1.1)
    asked = next(solver)
    assert asked.level.ratio == pytest.approx(s_hat, rel=1e-12)
    assert float(asked.x) / asked.level.alpha == pytest.approx(y_hat, rel=1e-12)
    following = solver.send(torch.tensor([0.4], dtype=torch.float64))
    assert asked.level.t <= grid.schedule.t_max  # beyond the schedule's end the net is told of the end
    following_x = float(following.x) / following.level.alpha
    s_hat_next = following.level.ratio
    assert following_x == pytest.approx(expected + math.sqrt(s_hat_next**2 - s_next**2) * 1.1 * z, rel=1e-12)


@pytest.mark.parametrize("solver", [euler, heun], ids=["euler", "heun"])
def test_churn_outside_its_range_does_nothing(solver) -> None:
    grid = make_grid(build_schedule(SCHEDULES["stable diffusion"]), 6, "trailing")
    start = fresh(-1)[:50]
    plain = next(solver(start, grid, None))
    for options in ({"s_churn": 5.0, "s_tmax": 0.01}, {"s_churn": 5.0, "s_tmin": 100.0}, {"s_churn": 0.0}):
        asked = next(solver(start, grid, None, **options))
        assert torch.equal(asked.x, plain.x)
        assert asked.level == plain.level


def test_a_restart_goes_back_up_to_where_the_stretch_began(gaussian) -> None:
    """Rows 5, 6, 7 and so on lie between sigma / alpha of 2 and 0.1; they are gone three times in all."""
    grid = make_grid(build_schedule(SCHEDULES["stable diffusion"]), 20, "karras")
    data, asked = gaussian(1.2, 0.5), []
    solver = restart(fresh(-1)[:50], grid, lambda step: fresh(step)[:50], times=2)
    query = next(solver)
    try:
        while True:
            if query.level in grid.levels:
                asked.append(grid.levels.index(query.level))
            query = solver.send(data.denoise(query.x, query.level, Conditioning()))
    except StopIteration:
        pass
    ratios = [level.ratio for level in grid.levels[:-1]]
    start, end = (min(range(20), key=lambda row, to=to: abs(ratios[row] - to)) for to in (2.0, 0.1))
    whole = [row for now in (*range(end), *range(start, end), *range(start, end)) for row in (now, now + 1)]
    rest = [row for now in range(end, 20) for row in (now, now + 1)]
    assert asked == (whole + rest)[:-1]  # into the clean level it asks once


def test_restarts_that_make_no_sense_are_refused() -> None:
    grid = make_grid(build_schedule(SCHEDULES["stable diffusion"]), 4, "trailing")
    for options in ({"times": -1}, {"low": 2.0, "high": 1.0}, {"low": 0.0}):
        with pytest.raises(SpecError, match="times of 0 or more and 0 < low < high"):
            next(restart(torch.zeros(1), grid, fresh, **options))


@pytest.mark.parametrize("eta", [-0.1, math.nan])
@pytest.mark.parametrize("solver", [euler_ancestral, dpm_2_ancestral, dpmpp_2s_ancestral, dpmpp_sde])
def test_shares_of_fresh_noise_that_do_not_exist_are_refused(solver, eta: float) -> None:
    grid = make_grid(build_schedule(SCHEDULES["stable diffusion"]), 4, "trailing")
    asking = solver(torch.zeros(1), grid, fresh, eta=eta)
    next(asking)
    with pytest.raises(SpecError, match="eta = "):
        asking.send(torch.zeros(1))
