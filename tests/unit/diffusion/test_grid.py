"""What a user can get wrong about steps, spacing and strength, and what grids do when asked."""

from __future__ import annotations

import math

import pytest

from undiffuse.core.errors import SpecError
from undiffuse.diffusion.grid import make_grid
from undiffuse.diffusion.schedule import Schedule, ScheduleSpec, build_schedule


@pytest.fixture(scope="module")
def schedule() -> Schedule:
    return build_schedule(ScheduleSpec(kind="cosine", steps=100))


def test_unknown_spacings_are_refused_with_the_known_ones(schedule: Schedule) -> None:
    with pytest.raises(
        SpecError, match=r"'quadratic'; there are: .*exponential, karras, kl_optimal, leading, linspace.*trailing"
    ):
        make_grid(schedule, 10, "quadratic")


@pytest.mark.parametrize("steps", [0, -3, 101])
def test_as_many_steps_as_the_schedule_has_are_allowed(schedule: Schedule, steps: int) -> None:
    with pytest.raises(SpecError, match=f"steps = {steps}; 1 to 100 are allowed"):
        make_grid(schedule, steps)
    assert len(make_grid(schedule, 100)) == 100


def test_a_continuous_schedule_takes_any_number_of_steps() -> None:
    flow = build_schedule(ScheduleSpec(kind="flow"))
    assert len(make_grid(flow, 1500)) == 1500
    with pytest.raises(SpecError, match="steps = 0; 1 or more are allowed"):
        make_grid(flow, 0)


@pytest.mark.parametrize("kind", ["cosine", "flow"])
@pytest.mark.parametrize("spacing", ["trailing", "karras"])
def test_nearer_levels_are_as_many_at_a_share_of_their_times(kind: str, spacing: str) -> None:
    whole = make_grid(build_schedule(ScheduleSpec(kind=kind)), 4, spacing)
    near = whole.nearer(0.65)
    assert [float(level.t) for level in near.levels] == pytest.approx([0.65 * float(level.t) for level in whole.levels])
    assert len(near) == 4 and near[4] == whole[4]
    ratios = [level.ratio for level in near.levels]
    assert ratios == sorted(ratios, reverse=True) and ratios[0] < whole[0].ratio
    assert whole.nearer(1.0) is whole


@pytest.mark.parametrize("share", [0.0, -0.2, 1.01, math.nan])
def test_a_share_beyond_its_range_is_refused(schedule: Schedule, share: float) -> None:
    with pytest.raises(SpecError, match=r"share = .*; above 0, up to 1 is allowed"):
        make_grid(schedule, 10).nearer(share)


@pytest.mark.parametrize("strength", [0.0, -0.2, 1.01, math.nan])
def test_strength_beyond_its_range_is_refused(schedule: Schedule, strength: float) -> None:
    with pytest.raises(SpecError, match=r"strength = .*; above 0, up to 1 is allowed"):
        make_grid(schedule, 10, strength=strength)


def test_pairs_are_neighbours(schedule: Schedule) -> None:
    grid = make_grid(schedule, 3)
    assert list(grid.pairs()) == [(grid[0], grid[1]), (grid[1], grid[2]), (grid[2], grid[3])]
