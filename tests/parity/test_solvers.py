"""Every solver step by step against its scheduler in diffusers, on a fixed fake net.

The net answers by the number of the question, so that a difference in what it is told about time changes nothing. Where
the state differs it is said at the place: Euler, Euler ancestral and Heun of diffusers carry x / alpha (k-diffusion's
state), the others carry x as we do. They work in float32, some with float32 tables, whatever they are given.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    HeunDiscreteScheduler,
    LCMScheduler,
)
from torch import Tensor

from undiffuse.core.random import normal, torch_stream
from undiffuse.diffusion.brownian import BrownianPath
from undiffuse.diffusion.drive import Solver
from undiffuse.diffusion.grid import Grid, make_grid
from undiffuse.diffusion.level import Level
from undiffuse.diffusion.prediction import to_x0
from undiffuse.diffusion.schedule import FlowSchedule, ScheduleSpec, build_schedule
from undiffuse.diffusion.solvers.ddim import ddim
from undiffuse.diffusion.solvers.ddpm import ddpm
from undiffuse.diffusion.solvers.dpmpp import dpmpp_2m
from undiffuse.diffusion.solvers.dpmpp_sde import dpmpp_2m_sde
from undiffuse.diffusion.solvers.euler import euler, euler_ancestral
from undiffuse.diffusion.solvers.heun import heun
from undiffuse.diffusion.solvers.lcm import lcm

# the oracle's own way with NumPy 2; nothing of ours
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")

STABLE = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
KINDS = {"eps": "epsilon", "x0": "sample", "v": "v_prediction", "flow": "flow_prediction"}
SHAPE = (2, 3, 4, 4)
CLOSE = 1e-5


def net(x: Tensor, question: int) -> Tensor:
    return torch.tanh(0.7 * x * (1 + 0.1 * question) + 0.3) - 0.05 * question


def grid_of(steps: int, spacing: str, **spec: object) -> Grid:
    return make_grid(build_schedule(ScheduleSpec.parse({"kind": "scaled_linear", **spec})), steps, spacing)


def trace(solver: Solver, kind: str) -> list[tuple[Tensor, Level | None]]:
    """What the solver asks about, question by question, with the level it asks at; last, its result."""
    asked: list[tuple[Tensor, Level | None]] = []
    query = next(solver)
    while True:
        asked.append((query.x, query.level))
        output = net(query.x, len(asked) - 1)
        try:
            query = solver.send(to_x0(kind, output, query.x, query.level))
        except StopIteration as end:
            return [*asked, (end.value, None)]


def in_ratio_state(traced: list[tuple[Tensor, Level | None]]) -> list[Tensor]:
    """x / alpha, the state of k-diffusion; alpha is 1 at the end."""
    return [x if level is None else x / level.alpha for x, level in traced]


def in_our_state(traced: list[tuple[Tensor, Level | None]]) -> list[Tensor]:
    return [x for x, _ in traced]


def their_trace(scheduler, start: Tensor, step: Callable[..., Tensor]) -> list[Tensor]:
    """The samples of diffusers' loop: scale, ask, step."""
    x, seen = start, [start]
    for question, t in enumerate(scheduler.timesteps):
        x = step(net(scheduler.scale_model_input(x, t), question), t, x)
        seen.append(x)
    return seen


def plain(scheduler, **options: object) -> Callable[..., Tensor]:
    return lambda output, t, x: scheduler.step(output, t, x, **options).prev_sample


def assert_same(found: list[Tensor], expected: list[Tensor]) -> None:
    assert len(found) == len(expected)
    for step, (ours, theirs) in enumerate(zip(found, expected, strict=True)):
        distance = float((ours.double() - theirs.double()).abs().max() / theirs.abs().max())
        assert distance <= CLOSE, f"after step {step} they are {distance:.1e} apart"


def start_of(grid: Grid, dtype: torch.dtype = torch.float32) -> Tensor:
    level = grid[0]
    return (level.alpha * 0.4 + level.sigma * normal(SHAPE, "parity", "start")).to(dtype)


def sequence(seed: str, dtype: torch.dtype) -> tuple[torch.Generator, Callable[[int], Tensor]]:
    """A generator for diffusers, and the same numbers by step for us."""
    stream = torch_stream(seed)
    drawn = [torch.randn(SHAPE, generator=stream, dtype=dtype) for _ in range(30)]
    return torch_stream(seed), drawn.__getitem__


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("spacing", ["trailing", "leading"])
@pytest.mark.parametrize("kind", ["eps", "x0", "v"])
@pytest.mark.parametrize("eta", [0.0, 0.6, 1.0])
def test_ddim(kind: str, spacing: str, eta: float, dtype: torch.dtype) -> None:
    grid = grid_of(10, spacing)
    scheduler = DDIMScheduler(
        **STABLE, prediction_type=KINDS[kind], timestep_spacing=spacing, steps_offset=1, clip_sample=False
    )
    scheduler.set_timesteps(10)
    generator, noise = sequence("ddim", dtype)
    expected = their_trace(scheduler, start_of(grid, dtype), plain(scheduler, eta=eta, generator=generator))
    assert_same(in_our_state(trace(ddim(start_of(grid, dtype), grid, noise, eta=eta), kind)), expected)


def test_ddim_from_zero_terminal_snr() -> None:
    grid = grid_of(10, "trailing", zero_terminal_snr=True)
    scheduler = DDIMScheduler(
        **STABLE, prediction_type="v_prediction", timestep_spacing="trailing", clip_sample=False, rescale_betas_zero_snr=True
    )
    scheduler.set_timesteps(10)
    expected = their_trace(scheduler, start_of(grid), plain(scheduler))
    assert_same(in_our_state(trace(ddim(start_of(grid), grid, normal), "v")), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["eps", "x0", "v"])
def test_ddpm(kind: str, dtype: torch.dtype) -> None:
    grid = grid_of(20, "trailing")
    scheduler = DDPMScheduler(**STABLE, prediction_type=KINDS[kind], timestep_spacing="trailing", clip_sample=False)
    scheduler.set_timesteps(20)
    generator, noise = sequence("ddpm", dtype)
    expected = their_trace(scheduler, start_of(grid, dtype), plain(scheduler, generator=generator))
    assert_same(in_our_state(trace(ddpm(start_of(grid, dtype), grid, noise), kind)), expected)


@pytest.mark.parametrize("kind", ["eps", "v"])
@pytest.mark.parametrize("spacing", ["linspace", "trailing", "karras", "exponential"])
def test_euler(spacing: str, kind: str) -> None:
    grid = grid_of(10, spacing)
    scheduler = EulerDiscreteScheduler(
        **STABLE,
        prediction_type=KINDS[kind],
        timestep_spacing="trailing" if spacing == "trailing" else "linspace",
        use_karras_sigmas=spacing == "karras",
        use_exponential_sigmas=spacing == "exponential",
    )
    scheduler.set_timesteps(10)
    expected = their_trace(scheduler, start_of(grid) / grid[0].alpha, plain(scheduler))
    assert_same(in_ratio_state(trace(euler(start_of(grid), grid, normal), kind)), expected)


@pytest.mark.parametrize("kind", ["eps", "v"])
@pytest.mark.parametrize("spacing", ["linspace", "trailing"])
def test_euler_ancestral(spacing: str, kind: str) -> None:
    grid = grid_of(10, spacing)
    scheduler = EulerAncestralDiscreteScheduler(**STABLE, prediction_type=KINDS[kind], timestep_spacing=spacing)
    scheduler.set_timesteps(10)
    generator, noise = sequence("euler ancestral", torch.float32)
    expected = their_trace(scheduler, start_of(grid) / grid[0].alpha, plain(scheduler, generator=generator))
    assert_same(in_ratio_state(trace(euler_ancestral(start_of(grid), grid, noise), kind)), expected)


@pytest.mark.parametrize("kind", ["eps", "v"])
@pytest.mark.parametrize("spacing", ["linspace", "trailing", "karras", "exponential"])
def test_heun(spacing: str, kind: str) -> None:
    """Two questions a step, one in the last: the trace holds the states of both."""
    grid = grid_of(10, spacing)
    scheduler = HeunDiscreteScheduler(
        **STABLE,
        prediction_type=KINDS[kind],
        timestep_spacing="linspace",
        use_karras_sigmas=spacing == "karras",
        use_exponential_sigmas=spacing == "exponential",
    )
    if spacing == "trailing":
        scheduler.set_timesteps(timesteps=[level.t for level in grid.levels[:-1]])
    else:
        scheduler.set_timesteps(10)
    found = in_ratio_state(trace(heun(start_of(grid), grid, normal), kind))
    expected = their_trace(scheduler, start_of(grid) / grid[0].alpha, plain(scheduler))
    assert len(found) == 20
    assert_same(found, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["eps", "x0", "v"])
@pytest.mark.parametrize("steps", [5, 20])
@pytest.mark.parametrize("spacing", ["trailing", "karras", "exponential"])
def test_dpmpp_2m(spacing: str, steps: int, kind: str, dtype: torch.dtype) -> None:
    grid = grid_of(steps, spacing)
    scheduler = DPMSolverMultistepScheduler(
        **STABLE,
        prediction_type=KINDS[kind],
        timestep_spacing="trailing",
        use_karras_sigmas=spacing == "karras",
        use_exponential_sigmas=spacing == "exponential",
    )
    scheduler.set_timesteps(steps)
    expected = their_trace(scheduler, start_of(grid, dtype), plain(scheduler))
    assert_same(in_our_state(trace(dpmpp_2m(start_of(grid, dtype), grid, normal), kind)), expected)


def test_dpmpp_2m_on_rectified_flow() -> None:
    """On the levels that diffusers chooses: even in sigma from 0.999."""
    scheduler = DPMSolverMultistepScheduler(use_flow_sigmas=True, prediction_type="flow_prediction")
    scheduler.set_timesteps(12)
    schedule = FlowSchedule()
    grid = Grid(tuple(schedule.level(sigma) for sigma in scheduler.sigmas.double().tolist()), schedule)
    expected = their_trace(scheduler, start_of(grid), plain(scheduler))
    assert_same(in_our_state(trace(dpmpp_2m(start_of(grid), grid, normal), "flow")), expected)


def test_euler_on_rectified_flow() -> None:
    grid = grid_of(12, "trailing", kind="flow")
    scheduler = FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(sigmas=np.linspace(1, 1 / 12, 12).tolist())
    x, expected = start_of(grid), [start_of(grid)]
    for question, t in enumerate(scheduler.timesteps):  # it has no scale_model_input
        x = scheduler.step(net(x, question), t, x).prev_sample
        expected.append(x)
    assert_same(in_our_state(trace(euler(start_of(grid), grid, normal), "flow")), expected)


@pytest.mark.parametrize("kind", ["eps", "v"])
@pytest.mark.parametrize("steps", [5, 20])
@pytest.mark.parametrize("spacing", ["trailing", "karras"])
@pytest.mark.parametrize("rule", ["midpoint", "heun"])
def test_dpmpp_2m_sde(rule: str, spacing: str, steps: int, kind: str) -> None:
    """Both on our Brownian path; diffusers takes the noise of a step from outside."""
    grid = grid_of(steps, spacing)
    scheduler = DPMSolverMultistepScheduler(
        **STABLE,
        prediction_type=KINDS[kind],
        algorithm_type="sde-dpmsolver++",
        solver_type=rule,
        timestep_spacing="trailing",
        use_karras_sigmas=spacing == "karras",
    )
    scheduler.set_timesteps(steps)
    path, rows = BrownianPath(noise_of), iter(range(steps - 1))

    def step(output: Tensor, t: Tensor, x: Tensor) -> Tensor:
        row = next(rows, None)
        fresh = torch.zeros_like(x) if row is None else path.between(grid[row], grid[row + 1])
        return scheduler.step(output, t, x, variance_noise=fresh).prev_sample

    expected = their_trace(scheduler, start_of(grid), step)
    assert_same(in_our_state(trace(dpmpp_2m_sde(start_of(grid), grid, noise_of, rule=rule), kind)), expected)


def noise_of(step: int) -> Tensor:
    return normal(SHAPE, "parity", step)


def test_lcm() -> None:
    """On the levels that diffusers chooses; its boundary terms are below 1e-7 there."""
    scheduler = LCMScheduler(**STABLE, clip_sample=False)
    scheduler.set_timesteps(4)
    schedule = build_schedule(ScheduleSpec(kind="scaled_linear"))
    grid = Grid((*(schedule.at(float(t)) for t in scheduler.timesteps), make_grid(schedule, 1)[-1]), schedule)
    generator, noise = sequence("lcm", torch.float32)
    expected = their_trace(scheduler, start_of(grid), plain(scheduler, generator=generator))
    assert_same(in_our_state(trace(lcm(start_of(grid), grid, noise), "eps")), expected)
