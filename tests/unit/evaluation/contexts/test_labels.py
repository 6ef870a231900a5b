"""Classes that are drawn, and others that are drawn in their place."""

from __future__ import annotations

from dataclasses import replace

import torch

from undiffuse.conditioners.labels import LabelConditioner
from undiffuse.core.pictures import to_pixels
from undiffuse.data.records import Row
from undiffuse.evaluation.contexts.bench import LeftOut
from undiffuse.evaluation.contexts.labels import evenly, label_field, measure_labels, written

PART = LabelConditioner(("winter", "summer", "spring"), 8)


def test_a_model_that_draws_the_class_is_right(bench, painter, values) -> None:
    draw = painter()
    report = measure_labels(PART, bench(draw)).report

    assert values(report) == dict.fromkeys(("label_top1", "label_top5", "label_ceiling_top1", "label_ceiling_top5"), 1.0)
    assert report.label_top1.n == 7
    assert all(set(said) == {"label", "seed"} for said in draw.asked)  # no words that would help
    assert {said["label"] for said in draw.asked} == {"winter", "summer"}


def test_a_model_that_draws_the_other_class_is_wrong(bench, painter, scenery, values) -> None:
    def other(_, said):
        rows = zip(scenery.rows, scenery.images, strict=True)
        return next(to_pixels(image) for row, image in rows if row.label != said["label"])

    told = values(measure_labels(PART, bench(painter(other))).report)
    assert told["label_top1"] == 0 and told["label_top5"] == 1  # there are but two
    assert told["label_ceiling_top1"] == 1


def test_labels_may_lie_in_a_field(bench, scenery) -> None:
    scenery.rows = [replace(row, label=None) for row in scenery.rows]
    asked = []

    def draw(requests):
        asked.extend(requests)
        return torch.zeros(len(requests), 3, 32, 32)

    assert measure_labels(PART, bench(draw)).report.label_ceiling_top1.value == 1
    assert {said["label"] for said in asked} == {"winter", "summer"}


def test_the_field_is_the_one_that_holds_the_classes() -> None:
    rows = [Row("a", "", None, fields={"kind": "fox", "word": "fox"}), Row("b", "", None, fields={"kind": "boat", "word": 3})]
    assert label_field(rows, ["fox", "boat"]) == "kind"
    assert label_field([*rows, Row("c", "", "boat")], ["fox", "boat"]) is None
    assert label_field(rows, ["tree"]) is None


def test_classes_that_the_model_never_learned_are_not_asked_for(bench, painter, scenery) -> None:
    scenery.rows = [row if index % 3 else replace(row, label="autumn") for index, row in enumerate(scenery.rows)]
    draw = painter()
    measure_labels(PART, bench(draw))
    assert {said["label"] for said in draw.asked} == {"winter", "summer"}


def test_one_class_is_no_question(bench, painter) -> None:
    found = measure_labels(LabelConditioner(("summer", "spring"), 8), bench(painter()))
    assert found == LeftOut("of the classes of the model fewer than 2 are in the data set")


def test_a_set_without_these_classes_is_left_out(bench) -> None:
    assert isinstance(measure_labels(LabelConditioner(("fox",), 8), bench()), LeftOut)


def test_references_are_spread_over_the_classes() -> None:
    labels = dict(enumerate(["a"] * 10 + ["b"] * 2 + ["c"] * 5))
    assert [labels[index] for index in evenly(labels, 9)] == ["a"] * 3 + ["b"] * 2 + ["c"] * 3
    assert [labels[index] for index in evenly(labels, 1)] == ["a", "b", "c"]


def test_a_label_is_written_on_white() -> None:
    square = written("red panda", 32)
    darkest, lightest = square.convert("L").getextrema()
    assert square.size == (32, 32) and darkest < 64 and lightest == 255
