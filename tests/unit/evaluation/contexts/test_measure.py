"""Which contexts are measured, which are left out and why."""

from __future__ import annotations

from dataclasses import replace

import pytest
from PIL import Image

from undiffuse.conditioners.boxes import BoxesConditioner
from undiffuse.conditioners.combined import Conditioner
from undiffuse.conditioners.labels import LabelConditioner
from undiffuse.conditioners.lookalike import LookalikeConditioner
from undiffuse.conditioners.maps import MapConditioner
from undiffuse.conditioners.masked import MaskConditioner
from undiffuse.conditioners.small import SmallConditioner
from undiffuse.core.errors import DataError, SpecError
from undiffuse.evaluation.contexts.bench import Triple, see
from undiffuse.evaluation.contexts.measure import NOT_LEARNED, evaluate_contexts
from undiffuse.evaluation.contexts.sheet import context_sheet

THINGS = tuple(f"hue {number}" for number in range(7))
EVERYTHING = (
    BoxesConditioner(THINGS, 8, 4),
    LabelConditioner(("summer", "winter"), 8),
    SmallConditioner(4, 2, 0.3),
    MapConditioner(("sky", "ground", "thing"), 2, None),
    MaskConditioner(4, 2),
)
NAMES = {"mask": 3, "map": 4, "small": 7, "label": 4, "boxes": 5}  # figures each


def test_every_context_is_measured_under_names_of_its_own(bench) -> None:
    report, shown = evaluate_contexts(Conditioner(EVERYTHING), bench(count=4))

    assert list(report.reports) == list(shown) == list(NAMES)
    assert len(report.figures()) == len(report.to_json()) == sum(NAMES.values())
    assert all(figure.low <= figure.value <= figure.high for figure in report.figures().values())
    assert "map agreement ratio" in report.table() and report.left_out == {}


def test_what_was_not_learned_or_cannot_be_asked_for_is_left_out_by_name(bench, scenery) -> None:
    scenery.maps[:] = [None] * 35
    report, shown = evaluate_contexts(Conditioner(EVERYTHING[2:]), bench(count=4))

    assert list(report.reports) == list(shown) == ["mask", "small"]
    assert report.left_out["label"] == report.left_out["boxes"] == NOT_LEARNED
    assert "no training picture has a map" in report.left_out["map"]


def test_a_model_that_learned_none_of_them_is_refused(bench) -> None:
    with pytest.raises(SpecError, match="this model reads like; one that learned any of mask, map, small"):
        evaluate_contexts(Conditioner([LookalikeConditioner(8, 8, None)]), bench())


def test_a_set_that_says_nothing_of_it_is_refused(bench, scenery) -> None:
    scenery.rows = [replace(row, fields={}) for row in scenery.rows]
    with pytest.raises(DataError, match="boxes: no label of the model is on boxes"):
        evaluate_contexts(Conditioner(EVERYTHING[:1]), bench())


def test_map_and_boxes_are_cut_with_their_picture(scenery) -> None:
    scenery.images[0] = scenery.images[0].resize((64, 32))
    scenery.maps[0] = scenery.maps[0].resize((64, 32), Image.Resampling.NEAREST)
    view = see(scenery, 0, 16)

    assert view.image.size == (16, 16) and view.map.shape == (16, 16)
    left = scenery.rows[0].fields["boxes"][0][0]
    assert view.boxes[0][0] == pytest.approx(max(0.0, (left - 0.25) * 2))


def test_a_cutout_stands_on_white_and_has_neither_map_nor_boxes(scenery) -> None:
    cutout = Image.new("RGBA", (32, 32))
    cutout.paste((255, 0, 0, 255), (8, 8, 24, 24))
    scenery.images[0] = cutout
    view = see(scenery, 0, 32)

    assert view.image.getpixel((0, 0)) == (255, 255, 255) and view.image.getpixel((16, 16)) == (255, 0, 0)
    assert view.map is None and view.boxes == []


def test_a_sheet_has_three_rows_for_each_context() -> None:
    colours = ("red", "green", "blue")
    triple = Triple(*(Image.new("RGB", (4, 4), colour) for colour in colours))
    sheet = context_sheet({"mask": [triple, triple], "map": [triple]})

    assert sheet.size == (8, 24)
    rows = [sheet.getpixel((5, 4 * row)) for row in range(6)]
    assert rows == [(255, 0, 0), (0, 128, 0), (0, 0, 255), *[(255, 255, 255)] * 3]
    assert [sheet.getpixel((0, 4 * row)) for row in range(3, 6)] == rows[:3]
    with pytest.raises(DataError, match="a sheet of no pictures"):
        context_sheet({})
