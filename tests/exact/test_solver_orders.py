"""Orders of convergence, measured against the exact probability-flow ODE of Gaussian data."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import pytest
import torch

from undiffuse.core.conditioning import Conditioning
from undiffuse.diffusion.drive import drive
from undiffuse.diffusion.grid import Grid, make_grid
from undiffuse.diffusion.schedule import ScheduleSpec, build_schedule
from undiffuse.diffusion.solvers.ddim import ddim
from undiffuse.diffusion.solvers.dpmpp import dpmpp_2m
from undiffuse.diffusion.solvers.euler import euler
from undiffuse.diffusion.solvers.heun import heun
from undiffuse.diffusion.solvers.table import SOLVERS as SOLVERS_BY_NAME

ORDERS = {"ddim": (ddim, 1), "euler": (euler, 1), "heun": (heun, 2), "dpmpp_2m": (dpmpp_2m, 2)}
SOLVERS = pytest.mark.parametrize(("solver", "order"), ORDERS.values(), ids=ORDERS.keys())
NAMED = {
    "dpm_2": ({}, 2),
    "dpmpp_2s": ({}, 2),
    "plms": ({}, 2),
    "ipndm": ({}, 2),
    "dpmpp_sde": ({"eta": 0.0}, 2),
    "dpmpp_2m_sde": ({"eta": 0.0}, 2),
    "dpmpp_2m_sde_heun": ({"eta": 0.0}, 2),
    "dpm_2_ancestral": ({"eta": 0.0}, 2),
    "dpmpp_2s_ancestral": ({"eta": 0.0}, 2),
    "euler_ancestral": ({"eta": 0.0}, 1),
    "tcd": ({"gamma": 0.0}, 1),
    "lms": ({}, 2),
    "deis": ({}, 2),
    "uni_pc": ({}, 2),
    "uni_pc_bh2": ({}, 2),
    "dpmpp_3m_sde": ({"eta": 0.0}, 2),
}
EXACT = {name for name in NAMED if name not in {"lms", "deis", "uni_pc", "uni_pc_bh2", "dpmpp_3m_sde"}}
"""Those whose order does not rise or fall on the way; the others are in test_multistep_orders.py."""
X = torch.tensor([-2.0, -0.3, 0.4, 1.7], dtype=torch.float64)


def vp(steps: int) -> Grid:
    """Between the two ends of Stable Diffusion's schedule; refined, the rule places its levels ever closer."""
    grid = make_grid(build_schedule(ScheduleSpec(kind="scaled_linear")), steps + 1, "karras")
    return Grid(grid.levels[:-1], grid.schedule)


def inner_flow(steps: int) -> Grid:
    """Rectified flow away from its ends, even in u from 0.95 to 0.05."""
    schedule = build_schedule(ScheduleSpec(kind="flow"))
    return Grid(tuple(schedule.level(0.95 - 0.9 * i / steps) for i in range(steps + 1)), schedule)


def whole_flow(steps: int) -> Grid:
    """From pure noise to a clean picture."""
    return make_grid(build_schedule(ScheduleSpec(kind="flow")), steps, "trailing")


def whole_zero_snr(steps: int) -> Grid:
    """The same on the circle, even in the angle, so that both of its ends are exact too."""
    schedule = build_schedule(ScheduleSpec(kind="scaled_linear", zero_terminal_snr=True))
    grid = make_grid(schedule, steps, "trailing")
    angles = [math.pi / 2 * i / steps for i in range(1, steps)]
    inner = (type(grid[0])(0.0, math.sin(angle), math.cos(angle)) for angle in angles)
    return Grid((grid[0], *inner, grid[-1]), schedule)


def measured_order(gaussian, solver, grid: Callable[[int], Grid], steps: int) -> float:
    """log2 of how much closer twice the steps come."""
    data = gaussian(0.3, 0.5)
    errors = []
    for count in (steps, 2 * steps):
        levels = grid(count)
        found = drive(solver(X, levels, None), data.denoise, Conditioning())
        exact = data.flow(X, levels[0], levels[-1])
        errors.append(float((found - exact).abs().max()))
    return math.log2(errors[0] / errors[1])


@SOLVERS
def test_on_a_variance_preserving_schedule_every_solver_has_its_order(gaussian, solver, order: int) -> None:
    assert measured_order(gaussian, solver, vp, 160) == pytest.approx(order, abs=0.06)


@pytest.mark.parametrize("name", sorted(EXACT))
@pytest.mark.parametrize(("grid", "steps"), [(vp, 160), (inner_flow, 80)], ids=["variance preserving", "flow"])
def test_by_name_too_as_odes(gaussian, name: str, grid, steps: int) -> None:
    options, order = NAMED[name]
    solver = functools.partial(SOLVERS_BY_NAME[name].function, **options)
    assert measured_order(gaussian, solver, grid, steps) == pytest.approx(order, abs=0.06)


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("grid", [whole_flow, whole_zero_snr], ids=["flow", "zero terminal snr"])
def test_from_no_signal_to_clean_more_steps_come_closer(gaussian, name: str, grid) -> None:
    """First order at both ends costs the midpoint rules up to one order; nothing is worse than first order."""
    options, order = NAMED[name]
    solver = functools.partial(SOLVERS_BY_NAME[name].function, **options)
    assert measured_order(gaussian, solver, grid, 160) > (1.1 if order == 2 else 0.95)


@pytest.mark.parametrize("name", NAMED)
def test_a_single_point_is_hit_by_name_too(gaussian, name: str) -> None:
    data = gaussian(0.7, 0.0)
    for grid in (whole_flow(5), make_grid(build_schedule(ScheduleSpec(kind="scaled_linear")), 7, "karras")):
        found = drive(SOLVERS_BY_NAME[name].function(X, grid, None, **NAMED[name][0]), data.denoise, Conditioning())
        torch.testing.assert_close(found, torch.full_like(X, 0.7), atol=1e-12, rtol=0)


@SOLVERS
def test_on_rectified_flow_every_solver_has_its_order(gaussian, solver, order: int) -> None:
    assert measured_order(gaussian, solver, inner_flow, 80) == pytest.approx(order, abs=0.06)


@SOLVERS
@pytest.mark.parametrize("grid", [whole_flow, whole_zero_snr], ids=["flow", "zero terminal snr"])
def test_from_pure_noise_to_clean_the_order_is_nearly_kept(gaussian, solver, order: int, grid) -> None:
    """Two-stage and two-step solvers have only one slope at alpha = 0 and at sigma = 0."""
    assert order - 0.4 < measured_order(gaussian, solver, grid, 160) < order + 0.25


@SOLVERS
def test_solvers_start_at_exactly_no_signal_without_a_tiny_number_in_its_place(gaussian, solver, order: int) -> None:
    data = gaussian(0.3, 0.5)
    grid = whole_flow(200)
    assert grid[0].alpha == 0
    found = drive(solver(X, grid, None), data.denoise, Conditioning())
    torch.testing.assert_close(found, 0.3 + 0.5 * X, atol=0.02 if order == 1 else 1e-3, rtol=0)


@SOLVERS
def test_a_single_point_is_hit_whatever_the_steps(gaussian, solver, order: int) -> None:
    """Data without spread: the clean estimate never changes, so every solver is exact."""
    data = gaussian(0.7, 0.0)
    for grid in (whole_flow(3), make_grid(build_schedule(ScheduleSpec(kind="scaled_linear")), 3, "leading")):
        found = drive(solver(X, grid, None), data.denoise, Conditioning())
        torch.testing.assert_close(found, torch.full_like(X, 0.7), atol=1e-12, rtol=0)


def test_higher_order_pays_at_equal_numbers_of_questions(gaussian) -> None:
    data = gaussian(0.3, 0.5)

    def error(solver, steps: int) -> float:
        levels = vp(steps)
        found = drive(solver(X, levels, None), data.denoise, Conditioning())
        return float((found - data.flow(X, levels[0], levels[-1])).abs().max())

    assert error(dpmpp_2m, 40) < 0.2 * error(euler, 40)
    assert error(heun, 20) < 0.5 * error(euler, 40)
