"""Which prompts a measurement is made of."""

from __future__ import annotations

from collections import Counter

import pytest

from undiffuse.core.errors import DataError
from undiffuse.data.backgrounds import COLOURS
from undiffuse.data.records import Row
from undiffuse.evaluation.prompts import Pair, coloured_prompts, pair_of, seen_and_held_out, white_prompts


def row(split: str, concept: str, style: str) -> Row:
    return Row(f"{split} {concept} {style}", "", split=split, fields={"concept": concept, "style": style})


FOX, BOAT, OWL = Pair("fox", "noto"), Pair("boat", "flat"), Pair("owl", "3d render")
ROWS = [row("train", *FOX), row("train", *BOAT), row("train", *FOX), row("val", *OWL), row("val", *BOAT), Row("x", "a photo")]


def test_pairs_are_told_apart_by_split_once_each() -> None:
    assert seen_and_held_out(ROWS) == ([BOAT, FOX], [OWL])


def test_a_row_without_concept_or_style_is_no_pair() -> None:
    assert pair_of(Row("x", "fox", fields={"concept": "fox", "style": ""})) is None
    assert pair_of(Row("x", "fox", fields={"style": "noto"})) is None


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([Row("x", "a photo")], "tells its concept and its style"),
        ([], "tells its concept and its style"),
        ([row("val", *FOX)], "is in the training split"),
        ([row("train", *FOX), row("val", *FOX)], "is in the validation split alone"),
    ],
)
def test_sets_that_cannot_be_used_are_refused(rows: list[Row], message: str) -> None:
    with pytest.raises(DataError, match=message):
        seen_and_held_out(rows)


def test_a_prompt_says_concept_style_and_background() -> None:
    [prompt] = white_prompts([OWL], 5, 0, "seen")

    assert prompt.text == "owl, 3d render, on a white background"
    assert (prompt.pair, prompt.background, prompt.kind) == (OWL, "white", "seen")


def test_colours_take_their_article() -> None:
    pairs = [Pair(f"thing {number}", "flat") for number in range(200)]
    texts = {prompt.background: prompt.text for prompt in coloured_prompts(pairs, 200, 0)}

    assert texts["orange"].endswith(", flat, on an orange background")
    assert texts["blue"].endswith(", flat, on a blue background")


def test_every_colour_is_asked_for_about_equally_often() -> None:
    pairs = [Pair(f"thing {number}", "flat") for number in range(2400)]

    counts = Counter(prompt.background for prompt in coloured_prompts(pairs, 2400, 0))

    assert set(counts) == set(COLOURS)
    assert all(150 < count < 250 for count in counts.values())  # 200 expected, sigma 13.5


@pytest.mark.parametrize("count", [1, 10, 50])
def test_pairs_are_drawn_without_repetition_and_seeds_differ(count: int) -> None:
    pairs = [Pair(f"thing {number}", "flat") for number in range(20)]

    for prompts in (white_prompts(pairs, count, 3, "seen"), coloured_prompts(pairs, count, 3)):
        assert len(prompts) == min(count, 20)
        assert len({prompt.pair for prompt in prompts}) == len(prompts)
        assert len({prompt.seed for prompt in prompts}) == len(prompts)


def test_the_seed_decides_and_a_larger_count_only_adds() -> None:
    pairs = [Pair(f"thing {number}", "flat") for number in range(20)]

    few, many = (white_prompts(pairs, count, 3, "held out") for count in (4, 12))

    assert many[:4] == few
    assert white_prompts(pairs, 12, 4, "held out") != many
    assert not {p.seed for p in many} & {p.seed for p in white_prompts(pairs, 12, 3, "seen")}
