"""Schedules and spacings against the tables of diffusers' schedulers.

diffusers keeps alphas_cumprod = alpha^2 in float32, and k-diffusion's sigma, our sigma / alpha. Two conventions differ:
between whole steps diffusers interpolates that ratio and we interpolate log alpha; and for the last ratio of a schedule
with zero terminal SNR it puts in 2^-24 where alpha is 0.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    HeunDiscreteScheduler,
)

from undiffuse.diffusion.grid import Grid, make_grid
from undiffuse.diffusion.schedule import DiscreteSchedule, ScheduleSpec, build_schedule

# the oracle's own way with NumPy 2; nothing of ours
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")

KINDS = {
    "linear": ("linear", 1e-4, 0.02),
    "scaled_linear": ("scaled_linear", 0.00085, 0.012),
    "cosine": ("squaredcos_cap_v2", 1e-4, 0.02),
}
STABLE = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}


def in_double(scheduler):
    """The scheduler with its own table recomputed in float64: 1 - alpha^2 loses five digits where there is little noise."""
    roots = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64)
    scheduler.alphas_cumprod = torch.cumprod(1 - roots**2, 0)
    return scheduler


def ours(steps: int, spacing: str, **spec: object) -> Grid:
    return make_grid(build_schedule(ScheduleSpec.parse({"kind": "scaled_linear", **spec})), steps, spacing)


def times(grid: Grid) -> list[float]:
    return [level.t for level in grid.levels[:-1]]


def ratios(grid: Grid) -> list[float]:
    return [level.sigma / level.alpha for level in grid.levels]


@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_signal_at_every_step(kind: str, zero: bool) -> None:
    theirs, start, end = KINDS[kind]
    spec = ScheduleSpec.parse({"kind": kind, "beta_start": start, "beta_end": end, "zero_terminal_snr": zero})
    schedule = build_schedule(spec)
    assert isinstance(schedule, DiscreteSchedule)
    oracle = DDIMScheduler(beta_schedule=theirs, beta_start=start, beta_end=end, rescale_betas_zero_snr=zero)
    expected = oracle.alphas_cumprod.double().sqrt().numpy()
    np.testing.assert_allclose(schedule.alphas, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("steps", [1, 4, 7, 20, 25, 30, 50, 333, 999, 1000])
def test_trailing_times(steps: int) -> None:
    oracle = DDIMScheduler(timestep_spacing="trailing")
    oracle.set_timesteps(steps)
    assert times(ours(steps, "trailing")) == oracle.timesteps.tolist()


@pytest.mark.parametrize("steps", [1, 4, 7, 20, 25, 30, 50, 333, 999])
def test_leading_times_with_the_offset_of_stable_diffusion(steps: int) -> None:
    oracle = DDIMScheduler(timestep_spacing="leading", steps_offset=1)
    oracle.set_timesteps(steps)
    assert times(ours(steps, "leading")) == oracle.timesteps.tolist()


@pytest.mark.parametrize("steps", [1, 2, 7, 20, 50])
def test_linspace_times(steps: int) -> None:
    oracle = EulerDiscreteScheduler(timestep_spacing="linspace")
    oracle.set_timesteps(steps)
    if steps == 1:  # numpy's linspace of one number is its start: t = 0 there, flipped; ours is the noisy end
        assert times(ours(1, "linspace")) == [999]
    else:
        assert times(ours(steps, "linspace")) == pytest.approx(oracle.timesteps.tolist(), abs=1e-3)


@pytest.mark.parametrize("steps", [2, 10, 28, 38])
@pytest.mark.parametrize("spacing", ["linspace", "karras", "exponential"])
@pytest.mark.parametrize("scheduler", [EulerDiscreteScheduler, HeunDiscreteScheduler], ids=["euler", "heun"])
def test_noise_ratios(scheduler, spacing: str, steps: int) -> None:
    """Steps for which linspace meets whole times."""
    options = {"use_karras_sigmas": spacing == "karras", "use_exponential_sigmas": spacing == "exponential"}
    oracle = in_double(scheduler(**STABLE, **options))
    oracle.set_timesteps(steps)
    sigmas = oracle.sigmas.tolist()
    if scheduler is HeunDiscreteScheduler:  # lists inner levels twice, once for each of its two questions
        sigmas = [sigmas[0], *sigmas[1:-1:2], sigmas[-1]]
    assert ratios(ours(steps, spacing)) == pytest.approx(sigmas, rel=1e-6)


@pytest.mark.parametrize("steps", [5, 20])
@pytest.mark.parametrize("spacing", ["trailing", "karras", "exponential"])
def test_noise_ratios_of_the_multistep_solver(spacing: str, steps: int) -> None:
    options = {"use_karras_sigmas": spacing == "karras", "use_exponential_sigmas": spacing == "exponential"}
    oracle = in_double(DPMSolverMultistepScheduler(**STABLE, timestep_spacing="trailing", **options))
    oracle.set_timesteps(steps)
    assert ratios(ours(steps, spacing)) == pytest.approx(oracle.sigmas.tolist(), rel=1e-6)


@pytest.mark.parametrize("spacing", ["karras", "exponential"])
def test_times_of_levels_that_lie_between_steps(spacing: str) -> None:
    """Both find the same two neighbours; what they tell the net differs by how they interpolate between them."""
    oracle = EulerDiscreteScheduler(
        **STABLE, use_karras_sigmas=spacing == "karras", use_exponential_sigmas=spacing == "exponential"
    )
    oracle.set_timesteps(30)
    assert times(ours(30, spacing)) == pytest.approx(oracle.timesteps.tolist(), abs=0.1)


@pytest.mark.parametrize("steps", [1, 4, 28])
def test_flow_levels(steps: int) -> None:
    """diffusers' pipelines hand the scheduler these sigmas; left alone it would end at 1 / 1000."""
    oracle = FlowMatchEulerDiscreteScheduler()
    oracle.set_timesteps(sigmas=np.linspace(1, 1 / steps, steps).tolist())
    grid = ours(steps, "trailing", kind="flow")
    assert [level.sigma for level in grid.levels] == pytest.approx(oracle.sigmas.tolist(), rel=1e-6)
    assert times(grid) == pytest.approx(oracle.timesteps.tolist(), rel=1e-6)
