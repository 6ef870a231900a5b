"""Models whose figures are known: one that draws what is asked for, one that draws its neighbour, one the opposite."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from undiffuse.core.errors import DataError
from undiffuse.core.pictures import to_pixels
from undiffuse.data.backgrounds import COLOURS
from undiffuse.data.records import Problem
from undiffuse.evaluation.prompts import Prompt
from undiffuse.evaluation.retrieval import PromptReport, evaluate_prompts, top

KEYS = [
    "seen_top1", "seen_top5", "held_out_top1", "held_out_top5", "background_accuracy", "nearest_train", "nearer_than_variants",
    "ceiling_top5",
]  # fmt: skip


class Painter:
    """Draws the picture of the gallery that a prompt asks for, `turn` hues further, and backgrounds `shift` names further."""

    def __init__(self, hues, turn: int = 0, shift: int = 0) -> None:
        shown = [(row, image) for row, image in zip(hues.rows, hues.images, strict=True) if image is not None]
        self.pictures = {(row.fields["concept"], row.fields["style"]): to_pixels(image) for row, image in shown}
        self.turn = turn
        self.shift = shift
        self.asked: list[Prompt] = []

    def __call__(self, prompts: Sequence[Prompt]) -> Tensor:
        self.asked += prompts
        return torch.stack([self.paint(prompt) for prompt in prompts])

    def paint(self, prompt: Prompt) -> Tensor:
        if prompt.kind == "background":
            names = list(COLOURS)
            name = names[(names.index(prompt.background) + self.shift) % len(names)]
            return (torch.tensor(COLOURS[name]) / 127.5 - 1).view(3, 1, 1).expand(3, 16, 16)
        hue = (int(prompt.pair.concept.split()[1]) + self.turn) % 8
        return self.pictures[f"hue {hue}", prompt.pair.style]


@pytest.fixture
def measure(hues, mean_colour) -> Callable[..., PromptReport]:
    def measured(draw: Callable[[Sequence[Prompt]], Tensor], **options) -> PromptReport:
        round_trip = options.pop("round_trip", lambda pixels: pixels)
        return evaluate_prompts(hues, draw, round_trip, mean_colour, size=16, **options)

    return measured


def values(report: PromptReport) -> dict[str, float]:
    return {name: figure.value for name, figure in report.figures().items()}


def test_a_model_that_draws_what_is_asked_for_scores_one(hues, measure) -> None:
    report = measure(Painter(hues))

    assert list(report.to_json()) == KEYS
    assert [value for name, value in values(report).items() if not name.startswith("near")] == [1.0] * 6
    assert [figure.n for figure in report.figures().values()] == [13, 13, 3, 3, 16, 16, 16, 3]


def test_the_nearest_training_picture_of_a_perfect_copyist(hues, measure) -> None:
    colours = np.array([image.getpixel((0, 0)) for image in hues.images]) / 127.5 - 1
    centred = colours - colours.mean(axis=0)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    trained = np.array([row.split == "train" for row in hues.rows])
    nearest = 1 - (unit @ unit[trained].T).max(axis=1)  # 0 for the training pictures themselves

    figure = measure(Painter(hues)).nearest_train

    assert figure.value == pytest.approx(nearest.mean(), abs=1e-6)
    assert figure.value > 0.01


def test_a_model_that_draws_a_neighbour_is_right_among_five_only(hues, measure) -> None:
    told = values(measure(Painter(hues, turn=1)))

    assert (told["seen_top1"], told["held_out_top1"]) == (0, 0)
    assert (told["seen_top5"], told["held_out_top5"]) == (1, 1)


def test_a_model_that_draws_the_opposite_is_never_right(hues, measure) -> None:
    told = values(measure(Painter(hues, turn=4)))

    assert [told[name] for name in KEYS[:4]] == [0] * 4
    assert told["ceiling_top5"] == 1


def test_a_model_that_ignores_the_words_is_right_by_chance_at_most(measure) -> None:
    told = measure(lambda prompts: torch.ones(len(prompts), 3, 16, 16))

    asked_for_white = told.background_accuracy.value
    assert told.seen_top1.value <= 2 / 13 and asked_for_white < 0.5


def test_backgrounds_are_scored_apart_from_things(hues, measure) -> None:
    told = values(measure(Painter(hues, shift=1)))

    assert told["background_accuracy"] == 0
    assert [told[name] for name in KEYS[:4]] == [1] * 4


def test_an_autoencoder_that_turns_colours_over_has_no_ceiling(hues, measure) -> None:
    told = values(measure(Painter(hues), round_trip=lambda pixels: -pixels))

    assert told["ceiling_top5"] == 0
    assert told["held_out_top5"] == 1


def test_the_batch_changes_neither_prompts_nor_figures(hues, measure) -> None:
    alone, together = Painter(hues, turn=1), Painter(hues, turn=1)
    steps: list[tuple[int, int, str]] = []

    one = measure(alone, batch=1)
    many = measure(together, batch=7, progress=lambda *step: steps.append(step))

    assert alone.asked == together.asked
    assert one.to_json() == {name: pytest.approx(figure) for name, figure in many.to_json().items()}
    assert [step for step in steps if step[0] == step[1]] == [
        (16, 16, "real pictures"), (16, 16, "drawing on white"), (16, 16, "drawing on colours"), (3, 3, "round trips"),
    ]  # fmt: skip


def test_the_count_and_the_seed_choose_the_prompts(hues, measure) -> None:
    first, again, other = Painter(hues), Painter(hues), Painter(hues)

    report = measure(first, count=2)
    measure(again, count=2)
    measure(other, count=2, seed=1)

    assert [figure.n for figure in report.figures().values()] == [2, 2, 2, 2, 2, 4, 4, 2]
    assert first.asked == again.asked != other.asked
    held_out = {row.fields["concept"] for row in hues.rows if row.split == "val"}
    assert {prompt.pair.concept for prompt in first.asked if prompt.kind == "held out"} <= held_out


def test_a_pair_whose_picture_cannot_be_read_is_not_asked_for(hues, measure) -> None:
    broken = next(i for i, row in enumerate(hues.rows) if row.split == "val")
    hues.images[broken] = None
    told: list[Problem] = []
    painter = Painter(hues)

    report = measure(painter, skip=told.append)

    assert report.held_out_top1.n == report.ceiling_top5.n == 2
    assert [problem.name for problem in told] == [hues.rows[broken].key]


def test_a_set_without_held_out_pairs_is_refused_before_anything_is_drawn(hues, measure) -> None:
    painter = Painter(hues)
    hues.rows[:] = [row for row in hues.rows if row.split == "train"]

    with pytest.raises(DataError, match="validation split"):
        measure(painter)
    assert painter.asked == []


def test_ranks_count_from_zero() -> None:
    assert top([0, 1, 4, 5], 1).value == 0.25
    assert top([0, 1, 4, 5], 5).value == 0.75
