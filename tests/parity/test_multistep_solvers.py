"""The multistep, two-stage and consistency solvers step by step against their schedulers in diffusers.

As in test_solvers.py a fixed fake net answers by the number of the question. Into the clean level all of ours take the
last clean estimate itself; where diffusers goes on with earlier slopes, or stops a little above it, the last state is
left out, and the place says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from diffusers import (
    DEISMultistepScheduler,
    DPMSolverMultistepScheduler,
    DPMSolverSinglestepScheduler,
    EulerDiscreteScheduler,
    IPNDMScheduler,
    KDPM2AncestralDiscreteScheduler,
    KDPM2DiscreteScheduler,
    PNDMScheduler,
    TCDScheduler,
    UniPCMultistepScheduler,
)
from torch import Tensor

from undiffuse.core.random import normal, torch_stream
from undiffuse.diffusion.brownian import BrownianPath
from undiffuse.diffusion.drive import Solver
from undiffuse.diffusion.grid import CLEAN, Grid, make_grid
from undiffuse.diffusion.level import Level
from undiffuse.diffusion.prediction import to_x0
from undiffuse.diffusion.schedule import ScheduleSpec, build_schedule
from undiffuse.diffusion.solvers.adams import deis, ipndm, lms, plms
from undiffuse.diffusion.solvers.dpm2 import dpm_2, dpm_2_ancestral
from undiffuse.diffusion.solvers.dpmpp import dpmpp_2s
from undiffuse.diffusion.solvers.dpmpp_sde import dpmpp_3m_sde, dpmpp_sde
from undiffuse.diffusion.solvers.ratio import halfway
from undiffuse.diffusion.solvers.tcd import tcd
from undiffuse.diffusion.solvers.unipc import uni_pc

# the oracle's own way with NumPy 2; nothing of ours
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:__array_wrap__ must accept context:DeprecationWarning"),
]

STABLE = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
KINDS = {"eps": "epsilon", "x0": "sample", "v": "v_prediction"}
SCHEDULE = build_schedule(ScheduleSpec(kind="scaled_linear"))
SHAPE = (2, 3, 4, 4)
CLOSE = 1e-5


def net(x: Tensor, question: int) -> Tensor:
    return torch.tanh(0.7 * x * (1 + 0.1 * question) + 0.3) - 0.05 * question


def noise_of(step: int) -> Tensor:
    return normal(SHAPE, "parity", step)


def start_of(grid: Grid) -> Tensor:
    return grid[0].alpha * 0.4 + grid[0].sigma * noise_of(-1)


def states(solver: Solver, kind: str, over_alpha: bool = False) -> list[Tensor]:
    """What the solver asks about, question by question; last, its result."""
    asked: list[Tensor] = []
    query = next(solver)
    while True:
        asked.append(query.x / query.level.alpha if over_alpha else query.x)
        try:
            query = solver.send(to_x0(kind, net(query.x, len(asked) - 1), query.x, query.level))
        except StopIteration as end:
            return [*asked, end.value]


def their_states(scheduler, start: Tensor, **options: object) -> list[Tensor]:
    """The samples of diffusers' loop: scale, ask, step."""
    x, seen = start, [start]
    for question, t in enumerate(scheduler.timesteps):
        x = scheduler.step(net(scheduler.scale_model_input(x, t), question), t, x, **options).prev_sample
        seen.append(x)
    return seen


def assert_same(found: list[Tensor], expected: list[Tensor], but_last: bool = False) -> None:
    assert len(found) == len(expected)
    for step, (ours, theirs) in enumerate(zip(found, expected, strict=True)):
        distance = float((ours.double() - theirs.double()).abs().max() / theirs.abs().max())
        if step < len(found) - but_last:
            assert distance <= CLOSE, f"after question {step} they are {distance:.1e} apart"


@pytest.mark.parametrize("steps", [4, 10, 25])
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_plms(spacing: str, steps: int) -> None:
    """PNDM goes into the clean level with four slopes, we with the last. For v it weighs what the net says, we eps."""
    grid = make_grid(SCHEDULE, steps, spacing)
    scheduler = PNDMScheduler(
        **STABLE,
        timestep_spacing=spacing,
        skip_prk_steps=True,
        set_alpha_to_one=True,
        steps_offset=1,
    )
    scheduler.set_timesteps(steps)
    found = states(plms(start_of(grid), grid, noise_of), "eps")
    assert len(found) == steps + 2
    assert_same(found, their_states(scheduler, start_of(grid)), but_last=True)


@pytest.mark.parametrize("kind", ["eps", "v"])
@pytest.mark.parametrize("spacing", ["linspace", "karras", "exponential"])
def test_lms(spacing: str, kind: str) -> None:
    """k-diffusion goes into the clean level with four slopes, we with the last."""
    pytest.importorskip("scipy")
    from diffusers import LMSDiscreteScheduler

    grid = make_grid(SCHEDULE, 12, spacing)
    scheduler = LMSDiscreteScheduler(
        **STABLE,
        prediction_type=KINDS[kind],
        timestep_spacing="linspace",
        use_karras_sigmas=spacing == "karras",
        use_exponential_sigmas=spacing == "exponential",
    )
    scheduler.set_timesteps(12)
    expected = their_states(scheduler, start_of(grid) / grid[0].alpha)
    assert_same(states(lms(start_of(grid), grid, noise_of), kind, over_alpha=True), expected, but_last=True)


@pytest.mark.parametrize("kind", ["eps", "x0", "v"])
@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("spacing", ["trailing", "karras"])
def test_deis(spacing: str, order: int, kind: str) -> None:
    """That of diffusers ends on its cleanest noisy level. It is given ratios in double precision, its weights need it."""
    grid = make_grid(SCHEDULE, 16, spacing)
    scheduler = DEISMultistepScheduler(
        **STABLE,
        prediction_type=KINDS[kind],
        solver_order=order,
        timestep_spacing="trailing",
        use_karras_sigmas=spacing == "karras",
    )
    scheduler.set_timesteps(16)
    scheduler.sigmas = torch.tensor([*(level.ratio for level in grid.levels[:-1]), SCHEDULE.at(0.0).ratio / 2]).double()
    expected = their_states(scheduler, start_of(grid))
    assert_same(states(deis(start_of(grid), grid, noise_of, order=order), kind), expected, but_last=True)


def test_ipndm() -> None:
    """On levels of its own, on a circle, its net told of v; without the first, where alpha is only nearly 0."""
    scheduler = IPNDMScheduler()
    scheduler.set_timesteps(12)
    pairs = zip(scheduler.alphas.double().tolist(), scheduler.betas.double().tolist(), strict=True)
    levels = tuple(Level(0.0, alpha, sigma) for alpha, sigma in pairs)
    grid = Grid(levels[1:], SCHEDULE)
    scheduler.timesteps = scheduler.timesteps[1:]
    scheduler.set_begin_index(1)
    found = states(ipndm(start_of(grid), grid, noise_of), "v")
    assert_same(found, their_states(scheduler, start_of(grid)), but_last=True)


@pytest.mark.parametrize("kind", ["eps", "x0", "v"])
@pytest.mark.parametrize("variant", ["bh1", "bh2"])
@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize(("spacing", "steps"), [("trailing", 5), ("karras", 12)])
def test_unipc(spacing: str, steps: int, order: int, variant: str, kind: str) -> None:
    """With B(h) = h that of diffusers is not a number at the clean level, where h is infinite."""
    grid = make_grid(SCHEDULE, steps, spacing)
    scheduler = UniPCMultistepScheduler(
        **STABLE,
        prediction_type=KINDS[kind],
        solver_order=order,
        solver_type=variant,
        timestep_spacing="trailing",
        use_karras_sigmas=spacing == "karras",
        final_sigmas_type="zero",
    )
    scheduler.set_timesteps(steps)
    expected = their_states(scheduler, start_of(grid))
    assert_same(states(uni_pc(start_of(grid), grid, noise_of, order, variant), kind), expected, but_last=variant == "bh1")


@pytest.mark.parametrize("kind", ["eps", "v"])
@pytest.mark.parametrize("spacing", ["linspace", "karras", "exponential"])
def test_dpm2(spacing: str, kind: str) -> None:
    grid = make_grid(SCHEDULE, 10, spacing)
    scheduler = KDPM2DiscreteScheduler(
        **STABLE,
        prediction_type=KINDS[kind],
        timestep_spacing="linspace",
        use_karras_sigmas=spacing == "karras",
        use_exponential_sigmas=spacing == "exponential",
    )
    scheduler.set_timesteps(10)
    expected = their_states(scheduler, start_of(grid) / grid[0].alpha)
    found = states(dpm_2(start_of(grid), grid, noise_of), kind, over_alpha=True)
    assert len(found) == 20
    assert_same(found, expected)


@pytest.mark.parametrize("kind", ["eps", "v"])
@pytest.mark.parametrize("spacing", ["linspace", "karras"])
def test_dpm2_ancestral(spacing: str, kind: str) -> None:
    grid = make_grid(SCHEDULE, 10, spacing)
    scheduler = KDPM2AncestralDiscreteScheduler(
        **STABLE, prediction_type=KINDS[kind], timestep_spacing="linspace", use_karras_sigmas=spacing == "karras"
    )
    scheduler.set_timesteps(10)
    stream = torch_stream("dpm2")
    drawn = [torch.randn(SHAPE, generator=stream) for _ in range(10)]
    expected = their_states(scheduler, start_of(grid) / grid[0].alpha, generator=torch_stream("dpm2"))
    solver = dpm_2_ancestral(start_of(grid), grid, drawn.__getitem__)
    assert_same(states(solver, kind, over_alpha=True), expected)


@pytest.mark.parametrize("kind", ["eps", "x0", "v"])
def test_dpmpp_2s(kind: str) -> None:
    """diffusers takes the next row for the middle, which it is where rows are even in log SNR; ours has every second."""
    scheduler = DPMSolverSinglestepScheduler(
        **STABLE, prediction_type=KINDS[kind], solver_order=2, use_exponential_sigmas=True, lower_order_final=True
    )
    scheduler.set_timesteps(11)
    rows = make_grid(SCHEDULE, 11, "exponential").levels
    grid = Grid((*rows[:11:2], CLEAN), SCHEDULE)
    found = states(dpmpp_2s(start_of(grid), grid, noise_of), kind)
    assert len(found) == 12
    assert_same(found, their_states(scheduler, start_of(grid)))


@pytest.mark.parametrize("kind", ["eps", "x0", "v"])
@pytest.mark.parametrize("spacing", ["trailing", "karras"])
def test_dpmpp_3m_as_an_ode(spacing: str, kind: str) -> None:
    """The SDE of third order is compared with k-diffusion: the last term of diffusers' has another sign."""
    grid = make_grid(SCHEDULE, 20, spacing)
    scheduler = DPMSolverMultistepScheduler(
        **STABLE,
        prediction_type=KINDS[kind],
        solver_order=3,
        solver_type="heun",
        timestep_spacing="trailing",
        use_karras_sigmas=spacing == "karras",
    )
    scheduler.set_timesteps(20)
    expected = their_states(scheduler, start_of(grid))
    assert_same(states(dpmpp_3m_sde(start_of(grid), grid, noise_of, eta=0.0), kind), expected)


@pytest.mark.parametrize("kind", ["eps", "v"])
@pytest.mark.parametrize("spacing", ["linspace", "karras", "exponential"])
def test_dpmpp_sde(spacing: str, kind: str) -> None:
    """Both on our Brownian path, which stands in for the sampler that diffusers makes with torchsde."""
    pytest.importorskip("torchsde")
    from diffusers import DPMSolverSDEScheduler

    grid = make_grid(SCHEDULE, 10, spacing)
    scheduler = DPMSolverSDEScheduler(
        **STABLE,
        prediction_type=KINDS[kind],
        timestep_spacing="linspace",
        use_karras_sigmas=spacing == "karras",
        use_exponential_sigmas=spacing == "exponential",
    )
    scheduler.set_timesteps(10)
    scheduler.noise_sampler = on_path(BrownianPath(noise_of), grid)
    expected = their_states(scheduler, start_of(grid) / grid[0].alpha)
    assert_same(states(dpmpp_sde(start_of(grid), grid, noise_of), kind, over_alpha=True), expected)


def on_path(path: BrownianPath, grid: Grid) -> Callable[[Tensor, Tensor], Tensor]:
    """The path by sigmas in float32: at the nearest of our levels, for a path is rough and tells 1e-7 by 3e-4."""
    rows = range(len(grid) - 1)
    levels = [*grid.levels[:-1], *(halfway(SCHEDULE, grid[row], grid[row + 1].ratio) for row in rows)]

    def nearest(ratio: Tensor) -> Level:
        return min(levels, key=lambda level: abs(math.log(level.ratio / float(ratio))))

    return lambda now, nxt: path.between(nearest(now), nearest(nxt))


@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("kind", ["eps", "v"])
def test_tcd(kind: str, gamma: float) -> None:
    """That of diffusers ends on its cleanest noisy level."""
    scheduler = TCDScheduler(**STABLE, prediction_type=KINDS[kind], clip_sample=False)
    scheduler.set_timesteps(6)
    grid = Grid((*(SCHEDULE.at(float(t)) for t in scheduler.timesteps), CLEAN), SCHEDULE)
    stream = torch_stream("tcd")
    drawn = [torch.randn(SHAPE, generator=stream) for _ in range(6)]
    expected = their_states(scheduler, start_of(grid), eta=gamma, generator=torch_stream("tcd"))
    found = states(tcd(start_of(grid), grid, drawn.__getitem__, gamma=gamma), kind)
    assert_same(found, expected, but_last=True)


@pytest.mark.parametrize("steps", [5, 20])
def test_the_beta_spacing(steps: int) -> None:
    """diffusers has the least ratio from a table in float32, where 1 - alpha^2 cancels."""
    pytest.importorskip("scipy")
    scheduler = EulerDiscreteScheduler(**STABLE, use_beta_sigmas=True)
    scheduler.set_timesteps(steps)
    found = torch.tensor([level.ratio for level in make_grid(SCHEDULE, steps, "beta").levels])
    torch.testing.assert_close(found, scheduler.sigmas, rtol=2 * CLOSE, atol=0)
