"""Synonyms that no caption has, two things of which one is beside or above the other, and one thing or two of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from PIL import Image
from torch import Tensor

from undiffuse.core.errors import DataError
from undiffuse.core.pictures import to_pixels
from undiffuse.data.records import Row
from undiffuse.evaluation import words
from undiffuse.evaluation.counting import Counting, countings, rightly_counted
from undiffuse.evaluation.prompts import Prompt
from undiffuse.evaluation.references import directions_of
from undiffuse.evaluation.words import WordsReport, arrangements, evaluate_words, parts_of, read_synonyms, synonym_prompts

SIZE = 32
SYNONYMS = {"hound": "hue 0", "zero": "hue 0", "feline": "hue 4", "kraken": "no such thing"}


@pytest.fixture
def cutouts(hues):
    """The hues as squares on nothing, so that they can be put together."""
    hues.images = [cut_out(image) for image in hues.images]
    hues.rows[0].fields["keywords"] = ["zero"]
    return hues


def cut_out(image: Image.Image) -> Image.Image:
    canvas = Image.new("RGBA", (20, 20))
    canvas.paste(image.convert("RGBA"), (2, 2))
    return canvas


class Painter:
    """Draws what is asked for, arrangements as training shows them or the other way round."""

    def __init__(self, cutouts, swapped: bool = False, wrong: bool = False) -> None:
        shown = zip(cutouts.rows, cutouts.images, strict=True)
        self.pictures = {(row.fields["concept"], row.fields["style"]): on_white(image) for row, image in shown}
        self.arranged = {one.prompt.text: one.pixels for some in arrangements(cutouts, SIZE, 100, 0).values() for one in some}
        self.counted = {one.prompt.text: one.pixels[one.number - 1, 0] for one in countings(cutouts, SIZE, 100, 0)}
        self.swapped = swapped
        self.wrong = wrong
        self.asked: list[Prompt] = []

    def __call__(self, prompts: Sequence[Prompt]) -> Tensor:
        self.asked += prompts
        return torch.stack([self.paint(prompt) for prompt in prompts])

    def paint(self, prompt: Prompt) -> Tensor:
        if prompt.kind == "synonym":
            return self.pictures["hue 2" if self.wrong else prompt.pair.concept, prompt.pair.style]
        if prompt.kind == "count":
            return self.counted[prompt.text]
        return self.arranged[prompt.text].flip(1, 2) if self.swapped else self.arranged[prompt.text]


def on_white(image: Image.Image) -> Tensor:
    canvas = Image.new("RGBA", image.size, "white")
    canvas.alpha_composite(image)
    return to_pixels(canvas.convert("RGB").resize((SIZE, SIZE)))


@pytest.fixture
def measure(cutouts, mean_colour, monkeypatch: pytest.MonkeyPatch) -> Callable[..., WordsReport]:
    monkeypatch.setattr(words, "read_synonyms", lambda: SYNONYMS)

    def measured(draw: Callable[[Sequence[Prompt]], Tensor], **options) -> WordsReport:
        round_trip = options.pop("round_trip", lambda pixels: pixels)
        return evaluate_words(cutouts, draw, round_trip, mean_colour, size=SIZE, **options)

    return measured


def values(report: WordsReport) -> list[float]:
    return [figure.value for figure in report.figures().values()]


def test_a_model_that_draws_what_is_asked_for_is_right(cutouts, measure) -> None:
    painter = Painter(cutouts)

    report = measure(painter, count=6)

    assert values(report)[:-1] == [1.0] * 7
    assert report.one_or_two_ceiling.value >= 0.5  # mean colours tell little of how many there are
    assert [figure.n for figure in report.figures().values()] == [2, 2, 6, 6, 6, 6, 6, 6]
    assert [prompt.text.split(",")[0] for prompt in painter.asked if prompt.kind == "synonym"] == ["hound", "feline"]


def test_things_that_change_places_are_wrong_and_the_ceiling_stays(cutouts, measure) -> None:
    assert values(measure(Painter(cutouts, swapped=True), count=6))[:6] == [1.0, 1.0, 0.0, 0.0, 1.0, 1.0]


def test_a_synonym_that_is_drawn_as_something_else_is_wrong(cutouts, measure) -> None:
    report = measure(Painter(cutouts, wrong=True), count=2)
    assert report.synonym_top1.value == 0
    assert report.synonym_top10.value == 1  # of eight concepts all are among the first ten


def test_an_autoencoder_that_mirrors_has_no_ceiling_side_by_side(cutouts, measure) -> None:
    report = measure(Painter(cutouts), count=6, round_trip=lambda pixels: pixels.flip(3))
    assert report.left_right_ceiling.value == 0 and report.above_below_ceiling.value == 1


def test_captions_say_which_is_where(cutouts) -> None:
    for layout, some in arrangements(cutouts, SIZE, 5, seed=1).items():
        for prompt, second, _ in some:
            first, before = prompt.text.index(prompt.pair.concept), prompt.text.index(second)
            assert prompt.pair.concept != second and prompt.kind == layout
            assert first < before if " below " not in prompt.text else before < first


def test_the_seed_chooses(cutouts) -> None:
    texts = [[one.prompt.text for one in arrangements(cutouts, SIZE, 5, seed)["left-right"]] for seed in (0, 0, 1)]
    assert texts[0] == texts[1] != texts[2]


def test_one_and_two_are_asked_for_in_turn_and_two_side_by_side_are_two(cutouts) -> None:
    asked = countings(cutouts, SIZE, 6, seed=0)
    assert [one.number for one in asked] == [1, 2] * 3
    assert all(("two hue" in one.prompt.text) == (one.number == 2) for one in asked)
    dark = [(one.pixels[:, 0] < 0.9).any(1).any(1).float().mean(-1) for one in asked]  # columns with something in them (2,)
    assert all(two > one for one, two in dark)


def test_as_many_as_were_asked_for_is_right(cutouts, mean_colour) -> None:
    asked = countings(cutouts, SIZE, 6, seed=0)
    directions = directions_of(mean_colour(torch.cat([one.pixels.flatten(0, 1) for one in asked])))

    def counted(number: Callable[[Counting], int]) -> list[bool]:
        return rightly_counted(torch.stack([one.pixels[number(one) - 1, 0] for one in asked]), asked, directions, mean_colour)

    assert counted(lambda one: one.number) == [True] * 6
    assert counted(lambda one: 3 - one.number) == [False] * 6


@pytest.mark.parametrize("layout", ["left-right", "above-below"])
def test_parts_are_what_is_there(layout: str) -> None:
    pixels = torch.zeros(1, 3, 32, 32)
    across = pixels.transpose(2, 3) if layout == "above-below" else pixels  # a view: the same picture, lying down
    across[..., :16], across[..., 16:] = -0.5, 0.5
    first, second = parts_of(pixels, layout)
    assert first.shape == second.shape == pixels.shape
    assert float(first.mean()) == pytest.approx(-0.5, abs=0.01) and float(second.mean()) == pytest.approx(0.5, abs=0.01)


def test_the_list_has_two_hundred_words_and_each_stands_for_another_name() -> None:
    synonyms = read_synonyms()
    assert len(synonyms) == 200
    assert all(word != concept and word == word.strip().lower() for word, concept in synonyms.items())


def test_a_set_of_something_else_is_refused(hues) -> None:
    with pytest.raises(DataError, match="no synonym"):
        synonym_prompts(hues.rows, {"hound": "dog"}, 0)
    with pytest.raises(DataError, match="can be put left-right"):
        arrangements(hues, SIZE, 5, 0)
    with pytest.raises(DataError, match="is a cut-out whose name has a plural"):
        countings(hues, SIZE, 5, 0)
    with pytest.raises(DataError, match="no synonym"):
        synonym_prompts([Row("a", "")], SYNONYMS, 0)
