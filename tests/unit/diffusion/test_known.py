"""What is known of a latent stays, to the bit; what is not is drawn; nothing that was given is written into."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from undiffuse.core.conditioning import Conditioning
from undiffuse.core.errors import SpecError
from undiffuse.core.random import PictureNoise, normal
from undiffuse.diffusion.drive import Query, Solver, drive, steps
from undiffuse.diffusion.grid import make_grid
from undiffuse.diffusion.known import keep_known, repaint
from undiffuse.diffusion.level import Level
from undiffuse.diffusion.schedule import ScheduleSpec, build_schedule
from undiffuse.diffusion.solvers.table import ENTRIES, SolverEntry

SCHEDULES = {
    "variance preserving": ScheduleSpec(kind="scaled_linear"),
    "zero terminal snr": ScheduleSpec(kind="scaled_linear", zero_terminal_snr=True),
    "flow": ScheduleSpec(kind="flow"),
}
GRIDS = pytest.mark.parametrize("spec", SCHEDULES.values(), ids=SCHEDULES.keys())
DRAWING = pytest.mark.parametrize("entry", [e for e in ENTRIES if e.name != "ddim_inverse"], ids=lambda entry: entry.name)
SHAPE = (3, 4, 4)
KNOWN = normal((2, *SHAPE), "known latents")
HIDDEN = (normal((2, 1, 4, 4), "holes") > 0).float()
COUNT = 6


def denoise(x: Tensor, level: Level, cond: Conditioning) -> Tensor:
    alpha, sigma = level.view(x)
    return (x - 0.2) * alpha / (1 + sigma * x * x)


def outside(x: Tensor) -> Tensor:
    return x[HIDDEN.expand_as(x) == 0]


def painting(spec: ScheduleSpec, noise=None, steps: int = COUNT, **options: int) -> Solver:
    noise = noise or PictureNoise(5, (0, 1), SHAPE)
    return repaint(noise(-1), make_grid(build_schedule(spec), steps), noise, KNOWN, HIDDEN, **options)


def queries(solver: Solver) -> list[Query]:
    found = [next(solver)]
    while True:
        try:
            found.append(solver.send(denoise(found[-1].x, found[-1].level, Conditioning())))
        except StopIteration:
            return found


@GRIDS
@DRAWING
def test_the_known_region_is_kept_to_the_bit(entry: SolverEntry, spec: ScheduleSpec) -> None:
    noise, grid = PictureNoise(5, (0, 1), SHAPE), make_grid(build_schedule(spec), COUNT)
    options = {"eta": 0.6} if entry.takes_eta else {}
    found = drive(entry.function(noise(-1), grid, noise, **options), keep_known(denoise, KNOWN, HIDDEN), Conditioning())

    assert torch.equal(outside(found), outside(KNOWN))
    assert not (found == KNOWN)[HIDDEN.expand_as(found) > 0].any()


@GRIDS
@pytest.mark.parametrize("options", [{}, {"resamples": 1}, {"jump": 4, "resamples": 2}, {"jump": 50}])
def test_repainting_keeps_it_to_the_bit_too(spec: ScheduleSpec, options: dict[str, int]) -> None:
    found = drive(painting(spec, **options), denoise, Conditioning())

    assert torch.equal(outside(found), outside(KNOWN))
    assert found.isfinite().all()


def test_with_everything_hidden_nothing_is_kept() -> None:
    x, level = normal((2, *SHAPE), "x"), Level(500.0, 0.5, 0.5)
    free = keep_known(denoise, KNOWN, torch.ones(2, 1, 4, 4))

    assert torch.equal(free(x, level, Conditioning()), denoise(x, level, Conditioning()))


def test_known_latents_take_the_precision_of_the_estimate() -> None:
    x = normal((2, *SHAPE), "x").to(torch.bfloat16)
    found = keep_known(denoise, KNOWN, HIDDEN)(x, Level(500.0, 0.5, 0.5), Conditioning())

    assert found.dtype == torch.bfloat16
    assert torch.equal(outside(found), outside(KNOWN).to(torch.bfloat16))


@GRIDS
def test_every_query_holds_the_known_region_noised_afresh(spec: ScheduleSpec) -> None:
    """The noise that is behind it is another one in every query, and is standard normal."""
    asked = queries(painting(spec, resamples=3))
    noises = [outside((q.x - q.level.alpha * KNOWN) / q.level.sigma) for q in asked]

    assert float(torch.cat(noises).std()) == pytest.approx(1, abs=0.1)
    first = noises[0]
    correlations = [abs(float(torch.corrcoef(torch.stack([first, other]))[0, 1])) for other in noises[4:]]
    assert max(correlations) < 0.6


def test_stretches_are_gone_as_often_as_asked_and_the_last_one_once() -> None:
    grid = make_grid(build_schedule(SCHEDULES["flow"]), 5)
    asked = queries(painting(SCHEDULES["flow"], steps=5, jump=2, resamples=3))

    rows = [grid.levels.index(query.level) for query in asked]
    assert rows == [0, 1, 0, 1, 0, 1, 2, 3, 2, 3, 2, 3, 4]
    assert [query.index for query in asked] == [0, 1, 1, 1, 1, 1, 2, 3, 3, 3, 3, 3, 4]


def test_a_driver_sees_each_step_of_the_grid_once() -> None:
    taken = list(steps(painting(SCHEDULES["flow"]), denoise, Conditioning()))

    assert [step.index for step in taken] == list(range(COUNT))
    assert {step.steps for step in taken} == {COUNT}
    assert torch.equal(outside(taken[-1].x), outside(KNOWN))


def test_every_draw_has_a_number_of_its_own() -> None:
    streams, numbers = PictureNoise(5, (0, 1), SHAPE), []

    def counted(step: int) -> Tensor:
        numbers.append(step)
        return streams(step)

    drive(painting(SCHEDULES["flow"], counted, resamples=4), denoise, Conditioning())
    assert len(numbers) == len(set(numbers)) > COUNT * 4


def test_a_picture_does_not_depend_on_the_batch_it_is_in() -> None:
    together = drive(painting(SCHEDULES["flow"]), denoise, Conditioning())
    grid = make_grid(build_schedule(SCHEDULES["flow"]), COUNT)
    for row in range(2):
        noise = PictureNoise(5, (row,), SHAPE)
        alone = repaint(noise(-1), grid, noise, KNOWN[row : row + 1], HIDDEN[row : row + 1])
        assert torch.equal(drive(alone, denoise, Conditioning()), together[row : row + 1])


@GRIDS
def test_nothing_that_was_given_is_written_into(spec: ScheduleSpec) -> None:
    given: list[tuple[Tensor, Tensor]] = [(KNOWN, KNOWN.clone()), (HIDDEN, HIDDEN.clone())]

    def keep(value: Tensor) -> Tensor:
        given.append((value, value.clone()))
        return value

    def seen(x: Tensor, level: Level, cond: Conditioning) -> Tensor:
        return keep(denoise(keep(x), level, cond))

    streams = PictureNoise(5, (0, 1), SHAPE)
    keep(drive(painting(spec, lambda step: keep(streams(step)), resamples=2), keep_known(seen, KNOWN, HIDDEN), Conditioning()))
    assert len(given) > 4 * COUNT
    assert all(torch.equal(value, copy) for value, copy in given)


@pytest.mark.parametrize("options", [{"jump": 0}, {"resamples": 0}, {"jump": -1}])
def test_no_stretch_and_no_resampling_at_all_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(SpecError, match=r"jump = -?\d, resamples = \d; 1 or more is allowed"):
        next(painting(SCHEDULES["flow"], **options))
