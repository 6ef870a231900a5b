"""Solvers against k-diffusion's own functions, query by query in float64, where that is installed.

It is no development requirement, since it asks for much that has nothing to do with sampling:
`pip install --no-deps k-diffusion` suffices here. Only its file of samplers is read, for the package imports the rest.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from undiffuse.core.random import START, normal
from undiffuse.diffusion.brownian import BrownianPath
from undiffuse.diffusion.drive import Solver
from undiffuse.diffusion.grid import Grid, make_grid
from undiffuse.diffusion.level import Level
from undiffuse.diffusion.schedule import ScheduleSpec, build_schedule
from undiffuse.diffusion.solvers.table import SOLVERS
from undiffuse.generation.request import Request
from undiffuse.generation.seeds.levels import whole_grid
from undiffuse.generation.seeds.numbers import numbers_of

SCHEDULE = build_schedule(ScheduleSpec(kind="scaled_linear"))
SHAPE = (2, 3, 4, 4)
CLOSE = 1e-10
CHURN = {"s_churn": 3.0, "s_tmin": 0.05, "s_tmax": 20.0, "s_noise": 1.01}


@pytest.fixture(scope="module")
def sampling() -> Iterator[ModuleType]:
    """The file of samplers; integrators of likelihoods, which it imports too, are stood in for."""
    pytest.importorskip("scipy")
    pytest.importorskip("torchsde")
    found = importlib.util.find_spec("k_diffusion")
    if found is None or not found.submodule_search_locations:
        pytest.skip("k-diffusion is not installed")
    package, shapes, ode = ModuleType("k_diffusion"), ModuleType("k_diffusion.utils"), ModuleType("torchdiffeq")
    package.__path__ = list(found.submodule_search_locations)
    package.utils = shapes  # type: ignore[attr-defined]
    shapes.append_dims = lambda x, n: x[(...,) + (None,) * (n - x.ndim)]  # type: ignore[attr-defined]
    ode.odeint = None  # type: ignore[attr-defined]
    path = Path(package.__path__[0]) / "sampling.py"
    with pytest.MonkeyPatch.context() as patch:
        for module in (package, shapes, ode):
            patch.setitem(sys.modules, module.__name__, module)
        spec = importlib.util.spec_from_file_location("k_diffusion.sampling", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield module


def noise_of(step: int) -> Tensor:
    return normal(SHAPE, "k-diffusion", step).double()


def clean(y: Tensor, ratio: float) -> Tensor:
    """What the fake net says of y = x / alpha."""
    return 1.1 * torch.tanh(0.7 * y / (1 + ratio) + 0.3) - 0.1 * y / (1 + ratio**2)


def ours(solver: Solver) -> list[Tensor]:
    asked: list[Tensor] = []
    query = next(solver)
    while True:
        asked.append(query.x / query.level.alpha)
        try:
            query = solver.send(clean(asked[-1], query.level.ratio))
        except StopIteration as end:
            return [*asked, end.value]


def theirs(function: Callable[..., Tensor], grid: Grid, start: Tensor, **options: Any) -> list[Tensor]:
    asked: list[Tensor] = []

    def model(y: Tensor, sigma: Tensor) -> Tensor:
        asked.append(y.clone())
        return clean(y, float(sigma[0]))

    ratios = torch.tensor([level.ratio for level in grid.levels], dtype=torch.float64)
    result = function(model, start / grid[0].alpha, ratios, disable=True, **options)
    return [*asked, result]


def on_path(path: BrownianPath) -> Callable[[Tensor, Tensor], Tensor]:
    def level(ratio: Tensor) -> Level:
        alpha = float((1 + ratio**2) ** -0.5)
        return Level(0.0, alpha, float(ratio) * alpha)

    return lambda now, nxt: path.between(level(now), level(nxt))


CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any], str]] = {
    # name of a case: our solver, our options, theirs, where their noise comes from
    "euler": ("euler", {}, {}, ""),
    "euler, churn": ("euler", CHURN, CHURN, "steps"),
    "heun": ("heun", {}, {}, ""),
    "heun, churn": ("heun", CHURN, CHURN, "steps"),
    "lms": ("lms", {}, {}, ""),
    "dpm_2": ("dpm_2", {}, {}, ""),
    "dpm_2_ancestral": ("dpm_2_ancestral", {}, {}, "steps"),
    "euler_ancestral": ("euler_ancestral", {}, {}, "steps"),
    "euler_ancestral, eta": ("euler_ancestral", {"eta": 0.4, "s_noise": 1.1}, {"eta": 0.4, "s_noise": 1.1}, "steps"),
    "dpmpp_2s_ancestral": ("dpmpp_2s_ancestral", {}, {}, "steps"),
    "dpmpp_2s_ancestral, eta": ("dpmpp_2s_ancestral", {"eta": 0.4}, {"eta": 0.4}, "steps"),
    "dpmpp_2m": ("dpmpp_2m", {}, {}, ""),
    "dpmpp_sde": ("dpmpp_sde", {}, {}, "path"),
    "dpmpp_sde, eta": ("dpmpp_sde", {"eta": 0.6, "s_noise": 0.9}, {"eta": 0.6, "s_noise": 0.9}, "path"),
    "dpmpp_2m_sde": ("dpmpp_2m_sde", {}, {}, "path"),
    "dpmpp_2m_sde, eta": ("dpmpp_2m_sde", {"eta": 0.6}, {"eta": 0.6}, "path"),
    "dpmpp_2m_sde, heun": ("dpmpp_2m_sde_heun", {}, {"solver_type": "heun"}, "path"),
    "dpmpp_3m_sde": ("dpmpp_3m_sde", {}, {}, "path"),
    "dpmpp_3m_sde, eta": ("dpmpp_3m_sde", {"eta": 0.6, "s_noise": 0.9}, {"eta": 0.6, "s_noise": 0.9}, "path"),
}


@pytest.mark.parametrize("spacing", ["karras", "linspace", "trailing"])
@pytest.mark.parametrize("case", CASES)
def test_every_query_is_that_of_k_diffusion(
    case: str, spacing: str, sampling: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, options, their_options, drawn = CASES[case]
    grid = make_grid(SCHEDULE, 12, spacing)
    start = grid[0].alpha * 0.4 + grid[0].sigma * noise_of(-1)
    numbers = count()
    if "churn" in case:
        monkeypatch.setattr(torch, "randn_like", lambda x: noise_of(next(numbers)))
    elif drawn == "steps":
        their_options = {**their_options, "noise_sampler": lambda now, nxt: noise_of(next(numbers))}
    elif drawn == "path":
        their_options = {**their_options, "noise_sampler": on_path(BrownianPath(noise_of))}
    function = getattr(sampling, f"sample_{name.removesuffix('_heun')}")

    expected = theirs(function, grid, start, **their_options)
    found = ours(SOLVERS[name].function(start, grid, noise_of, **options))

    assert len(found) == len(expected)
    compared = len(found) - (name == "lms")  # it goes into the clean level with four slopes, we with the last
    for ours_there, theirs_there in zip(found[:compared], expected[:compared], strict=True):
        assert float((ours_there - theirs_there).abs().max() / theirs_there.abs().max()) < CLOSE


class Batch:
    """The numbers of a request's pictures, as a run of ours has them."""

    def __init__(self, request: Request) -> None:
        self.numbers = [numbers_of(one, SHAPE[1:]) for one in request.each()]

    def __call__(self, step: int) -> Tensor:
        return torch.cat([numbers(step) for numbers in self.numbers]).double()

    def path(self, grid: Grid) -> Batch:
        self.paths = [numbers.path(grid) for numbers in self.numbers]
        return self

    def between(self, now: Level, nxt: Level) -> Tensor:
        return torch.cat([path.between(now, nxt) for path in self.paths]).double()


ANCESTRAL = ("euler_ancestral", "dpm_2_ancestral", "dpmpp_2s_ancestral")
PATHS = ("dpmpp_sde", "dpmpp_2m_sde", "dpmpp_3m_sde")
SEED, TOLD = 7, {"steps": 12, "spacing": "karras", "count": SHAPE[0]}


def same(request: Request, sampling: ModuleType, start: Tensor, noise_sampler: Callable[..., Tensor]) -> None:
    """Their sampler with this noise goes the way of ours with the seeds of the request."""
    grid = whole_grid(request, SCHEDULE)
    mine = Batch(request)
    x = grid[0].sigma * mine(START)
    expected = theirs(
        getattr(sampling, f"sample_{request.solver}"), grid, grid[0].sigma * start.double(), noise_sampler=noise_sampler
    )
    found = ours(SOLVERS[request.solver].function(x, grid, mine))

    assert len(found) == len(expected)
    for here, there in zip(found, expected, strict=True):
        assert float((here - there).abs().max() / there.abs().max()) < 1e-4


def tree(sampling: ModuleType, request: Request, seed: int | list[int]) -> Callable[..., Tensor]:
    grid = whole_grid(request, SCHEDULE)
    ends = (torch.tensor(grid[row].ratio, dtype=torch.float32) for row in (len(grid) - 1, 0))
    drawn = sampling.BrownianTreeNoiseSampler(torch.zeros(SHAPE), *ends, seed=seed)
    return lambda now, nxt: drawn(now.float(), nxt.float()).double()


@pytest.mark.filterwarnings("ignore:Should have t")
@pytest.mark.parametrize("solver", [*ANCESTRAL, *PATHS])
def test_the_same_seeds_as_in_the_web_ui(solver: str, sampling: ModuleType) -> None:
    request = Request(solver=solver, seeds="webui-cpu", seed=SEED, **TOLD)
    generators = [torch.Generator().manual_seed(SEED + k) for k in range(SHAPE[0])]

    def fresh(*_: Tensor) -> Tensor:
        return torch.stack([torch.randn(SHAPE[1:], generator=generator) for generator in generators]).double()

    start = fresh()
    seeds = [SEED + k for k in range(SHAPE[0])]
    same(request, sampling, start, fresh if solver in ANCESTRAL else tree(sampling, request, seeds))


@pytest.mark.filterwarnings("ignore:Should have t")
@pytest.mark.parametrize("solver", [*ANCESTRAL, *PATHS])
def test_the_same_seed_as_in_comfyui(solver: str, sampling: ModuleType) -> None:
    request = Request(solver=solver, seeds="comfyui-cpu", seed=SEED, **TOLD)
    start = torch.randn(SHAPE, generator=torch.Generator().manual_seed(SEED))
    later = torch.Generator().manual_seed(SEED + 1)

    def fresh(*_: Tensor) -> Tensor:
        return torch.randn(SHAPE, generator=later).double()

    same(request, sampling, start, fresh if solver in ANCESTRAL else tree(sampling, request, SEED))
