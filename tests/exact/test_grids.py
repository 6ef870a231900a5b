"""Grids against the formulas of their sources."""

from __future__ import annotations

import math

import numpy as np
import pytest

from undiffuse.diffusion.grid import CLEAN, Grid, make_grid
from undiffuse.diffusion.level import Level
from undiffuse.diffusion.quantiles import symmetric_beta
from undiffuse.diffusion.schedule import Schedule, ScheduleSpec, build_schedule
from undiffuse.diffusion.spacings import SPACINGS

KINDS = {
    "stable diffusion": ScheduleSpec(kind="scaled_linear"),
    "zero terminal snr": ScheduleSpec(kind="scaled_linear", zero_terminal_snr=True),
    "cosine": ScheduleSpec(kind="cosine"),
    "flow": ScheduleSpec(kind="flow"),
}


@pytest.fixture(scope="module")
def stable() -> Schedule:
    return build_schedule(KINDS["stable diffusion"])


@pytest.fixture(scope="module")
def straight() -> Schedule:
    return build_schedule(KINDS["flow"])


def times(grid: Grid) -> list[float]:
    return [level.t for level in grid.levels[:-1]]


def ratios(grid: Grid) -> np.ndarray:
    return np.array([level.sigma / level.alpha if level.alpha else math.inf for level in grid.levels[:-1]])


@pytest.mark.parametrize("spec", KINDS.values(), ids=KINDS.keys())
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("steps", [1, 2, 3, 7, 20, 50, 333, 999, 1000])
def test_every_grid_falls_strictly_to_a_clean_last_level(spec: ScheduleSpec, spacing: str, steps: int) -> None:
    grid = make_grid(build_schedule(spec), steps, spacing)
    if spacing == "ddim_uniform":  # ComfyUI's strides from t = 1 decide
        steps = len(grid)
    assert len(grid) == steps
    assert len(grid.levels) == steps + 1
    assert grid[-1] == Level(0.0, 1.0, 0.0)
    assert all(now.sigma * nxt.alpha > nxt.sigma * now.alpha for now, nxt in grid.pairs())
    assert all(type(value) is float for level in grid.levels for value in (level.t, level.alpha, level.sigma))


@pytest.mark.parametrize("steps", [1, 3, 10, 20, 30, 999, 1000])
def test_trailing_steps_back_evenly_from_the_end(stable: Schedule, steps: int) -> None:
    """Lin et al. 2024, table 2: round(flip(arange(T, 0, -T / S))) for t = 1 .. T; ours count from 0."""
    expected = [round(1000 - i * 1000 / steps) - 1 for i in range(steps)]
    assert times(make_grid(stable, steps, "trailing")) == expected


def test_the_published_example_of_ten_trailing_steps(stable: Schedule) -> None:
    assert times(make_grid(stable, 10, "trailing")) == [999, 899, 799, 699, 599, 499, 399, 299, 199, 99]


@pytest.mark.parametrize("steps", [2, 10, 30, 50, 300, 999])
def test_leading_is_the_original_ddim_with_its_offset_of_one(stable: Schedule, steps: int) -> None:
    """Multiples of T // S, plus one: `range(0, 1000, 1000 // S) + 1` of CompVis, cut to S steps."""
    expected = [i * (1000 // steps) + 1 for i in reversed(range(steps))]
    assert times(make_grid(stable, steps, "leading")) == expected


def test_leading_gives_up_its_offset_where_it_would_leave_the_schedule(stable: Schedule) -> None:
    assert times(make_grid(stable, 1000, "leading")) == list(range(999, -1, -1))


@pytest.mark.parametrize("steps", [2, 10, 23, 50])
def test_linspace_is_even_and_has_both_ends(stable: Schedule, steps: int) -> None:
    expected = [999 - 999 * i / (steps - 1) for i in range(steps)]
    assert times(make_grid(stable, steps, "linspace")) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("steps", [2, 5, 30])
def test_karras_follows_its_equation(stable: Schedule, steps: int) -> None:
    """Karras et al. 2022, eq. 5, with rho = 7 and the schedule's own ends."""
    ends = [level.sigma / level.alpha for level in (stable.at(999), stable.at(0))]
    high, low = (end ** (1 / 7) for end in ends)
    expected = [(high + i / (steps - 1) * (low - high)) ** 7 for i in range(steps)]
    np.testing.assert_allclose(ratios(make_grid(stable, steps, "karras")), expected, rtol=1e-10)


@pytest.mark.parametrize("steps", [2, 5, 30])
def test_exponential_ratios_fall_by_a_constant_factor(stable: Schedule, steps: int) -> None:
    found = ratios(make_grid(stable, steps, "exponential"))
    ends = [level.sigma / level.alpha for level in (stable.at(999), stable.at(0))]
    factor = (ends[1] / ends[0]) ** (1 / (steps - 1))
    np.testing.assert_allclose(found[1:] / found[:-1], factor, rtol=1e-9)
    np.testing.assert_allclose(found[[0, -1]], ends, rtol=1e-10)


@pytest.mark.parametrize("spacing", ["karras", "exponential"])
def test_where_the_last_ratio_is_infinite_the_rule_starts_one_step_below(spacing: str) -> None:
    schedule = build_schedule(KINDS["zero terminal snr"])
    grid = make_grid(schedule, 6, spacing)
    assert (grid[0].alpha, grid[0].sigma) == (0, 1)
    high, low = (schedule.at(t).sigma / schedule.at(t).alpha for t in (998, 0))
    if spacing == "karras":
        second = (high ** (1 / 7) + (low ** (1 / 7) - high ** (1 / 7)) / 5) ** 7
    else:
        second = high * (low / high) ** (1 / 5)
    assert ratios(grid)[1] == pytest.approx(second, rel=1e-9)


@pytest.mark.parametrize("spacing", ["trailing", "leading", "linspace", "sgm_uniform", "simple", "ddim_uniform"])
def test_on_a_straight_line_every_even_spacing_is_the_same(straight: Schedule, spacing: str) -> None:
    grid = make_grid(straight, 8, spacing)
    assert [level.sigma for level in grid.levels] == pytest.approx([1 - i / 8 for i in range(9)], abs=1e-15)


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize(("strength", "kept"), [(1.0, 20), (0.75, 15), (0.52, 10), (0.53, 11), (0.05, 1), (0.001, 1)])
def test_a_partial_grid_is_the_end_of_the_whole_one(stable: Schedule, spacing: str, strength: float, kept: int) -> None:
    whole = make_grid(stable, 20, spacing)
    part = make_grid(stable, 20, spacing, strength=strength)
    assert part.levels == whole.levels[-kept - 1 :]
    assert part[-1] == CLEAN


def test_between_two_levels_ratios_are_interpolated_geometrically(stable: Schedule) -> None:
    grid = make_grid(stable, 10, "trailing")
    found = grid.between(3, 0.5)
    product = math.prod(level.sigma / level.alpha for level in (grid[3], grid[4]))
    assert found.sigma / found.alpha == pytest.approx(math.sqrt(product), rel=1e-12)
    assert grid[3].t > found.t > grid[4].t
    for share, end in ((0.0, grid[3]), (1.0, grid[4])):
        level = grid.between(3, share)
        assert (level.alpha, level.sigma) == pytest.approx((end.alpha, end.sigma), rel=1e-12)


def test_between_ends_that_have_no_ratio_time_is_interpolated(straight: Schedule) -> None:
    grid = make_grid(straight, 4, "trailing")
    assert grid.between(0, 0.5) == Level(875.0, 0.125, 0.875)
    assert grid.between(3, 0.5) == Level(125.0, 0.875, 0.125)


@pytest.mark.parametrize("steps", [1, 2, 10, 23, 50])
def test_sgm_uniform_leaves_out_the_last_of_one_more(stable: Schedule, steps: int) -> None:
    """generative-models, A1111 and ComfyUI: linspace(999, 0, steps + 1) without its end."""
    assert times(make_grid(stable, steps, "sgm_uniform")) == pytest.approx(np.linspace(999, 0, steps + 1)[:-1].tolist())


@pytest.mark.parametrize("steps", [1, 7, 20, 30, 999])
def test_simple_reads_the_table_from_its_end(stable: Schedule, steps: int) -> None:
    """ComfyUI: entry -(1 + int(i * len / steps)) of the sigmas."""
    table = list(range(1000))
    assert times(make_grid(stable, steps, "simple")) == [table[-(1 + int(i * (1000 / steps)))] for i in range(steps)]


@pytest.mark.parametrize(("steps", "found"), [(10, 10), (20, 20), (30, 31), (7, 7), (999, 999), (1000, 999)])
def test_ddim_uniform_goes_by_strides_from_one(stable: Schedule, steps: int, found: int) -> None:
    """ComfyUI and A1111: 1, 1 + stride, ... below 1000, with a stride of 1000 // steps."""
    t, expected = 1, []
    while t < 1000:
        expected.append(t)
        t += 1000 // steps
    grid = make_grid(stable, steps, "ddim_uniform")
    assert times(grid) == expected[::-1]
    assert len(grid) == found + (steps == 7)


@pytest.mark.parametrize("steps", [2, 5, 30])
def test_kl_optimal_is_even_in_the_angle(stable: Schedule, steps: int) -> None:
    high, low = (math.atan(stable.at(t).ratio) for t in (999, 0))
    expected = [math.tan(high + (low - high) * i / (steps - 1)) for i in range(steps)]
    np.testing.assert_allclose(ratios(make_grid(stable, steps, "kl_optimal")), expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("spacing", "published"),
    [
        ("align_your_steps", [6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029]),
        ("align_your_steps_xl", [6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113, 0.029]),
    ],
)
def test_aligned_steps_are_the_published_ones(stable: Schedule, spacing: str, published: list[float]) -> None:
    """From 14.615, which is the schedule's own end; between them geometrically, so that of 21 every second is published."""
    eleven, more = (ratios(make_grid(stable, steps, spacing)) for steps in (11, 21))
    np.testing.assert_allclose(eleven, [stable.at(999).ratio, *published], rtol=1e-9)
    np.testing.assert_allclose(more[::2], eleven, rtol=1e-9)
    np.testing.assert_allclose(more[3::2] ** 2, more[2:-1:2] * more[4::2], rtol=1e-9)


def test_quantiles_of_the_beta_law_are_right_where_they_have_closed_forms() -> None:
    """Beta(1/2, 1/2) is the arcsine law, Beta(1, 1) the uniform one, Beta(2, 2) has the share 3 x^2 - 2 x^3 below x."""
    shares = np.linspace(0, 1, 41)
    np.testing.assert_allclose(symmetric_beta(shares, 0.5), np.sin(np.pi * shares / 2) ** 2, atol=1e-12)
    np.testing.assert_allclose(symmetric_beta(shares, 1.0), shares, atol=1e-12)
    found = symmetric_beta(shares, 2.0)
    np.testing.assert_allclose(3 * found**2 - 2 * found**3, shares, atol=1e-12)


@pytest.mark.parametrize("steps", [2, 10, 25])
def test_beta_lies_at_quantiles_of_its_law(stable: Schedule, steps: int) -> None:
    """A1111 and diffusers: quantiles of Beta(0.6, 0.6) between the two ends; the law here by adding up its density."""
    high, low = (stable.at(t).ratio for t in (999, 0))
    places = (ratios(make_grid(stable, steps, "beta")) - low) / (high - low)
    turns = (np.arange(400_000) + 0.5) / 400_000 * np.pi / 2  # x = sin^2, whose density has no poles
    density = np.sin(turns) ** 0.2 * np.cos(turns) ** 0.2
    shares = np.interp(places, np.sin(turns) ** 2, np.cumsum(density) / density.sum())
    np.testing.assert_allclose(shares, 1 - np.linspace(0, 1, steps), atol=2e-5)
