"""Boxes with the right thing in them, with another one, and with nothing."""

from __future__ import annotations

from dataclasses import replace

import torch

from undiffuse.conditioners.boxes import BoxesConditioner
from undiffuse.core.pictures import to_pixels
from undiffuse.evaluation.contexts.bench import LeftOut, pieces
from undiffuse.evaluation.contexts.boxes import fitting, is_measured, measure_boxes, outlined

THINGS = tuple(f"hue {number}" for number in range(7))
PART = BoxesConditioner(THINGS, 8, 4)


def test_things_in_their_boxes_are_found(bench, painter, values) -> None:
    draw = painter()
    report = measure_boxes(PART, bench(draw)).report
    told = values(report)

    assert [told[name] for name in ("boxes_top1", "boxes_top5", "boxes_ceiling_top1", "boxes_ceiling_top5")] == [1] * 4
    assert told["boxes_elsewhere_top5"] < 1
    assert report.boxes_top1.n == 7
    assert set(draw.asked[0]) == {"prompt", "boxes", "seed"}
    (box,) = draw.asked[0]["boxes"]
    assert isinstance(box, tuple) and box[4] in THINGS


def test_other_things_in_the_boxes_are_not(bench, painter, scenery, values) -> None:
    """The thing of the picture three further has nearly the opposite hue."""

    def other(pixels, said):
        (left, top, right, bottom, label), changed = said["boxes"][0], pixels.clone()
        place = (THINGS.index(label) + 3) % 7
        (x0, y0, x1, y1, _), image = scenery.rows[place].fields["boxes"][0], to_pixels(scenery.images[place])
        there, here = (slice(round(a * 32), round(b * 32)) for a, b in ((y0, y1), (x0, x1)))
        changed[:, round(top * 32) : round(bottom * 32), round(left * 32) : round(right * 32)] = image[:, there, here]
        return changed

    told = values(measure_boxes(PART, bench(painter(other))).report)
    assert told["boxes_top1"] == 0 and told["boxes_ceiling_top1"] == 1


def test_the_largest_boxes_of_known_labels_are_asked_for() -> None:
    boxes = [[0, 0, 0.1, 0.1, "hue 1"], [0, 0, 0.5, 0.5, "hue 2"], [0, 0, 0.9, 0.9, "cloud"], [0, 0, 0.3, 0.3, "hue 3"]]
    assert [box[4] for box in fitting(boxes, BoxesConditioner(THINGS, 8, 2))] == ["hue 2", "hue 3"]


def test_what_is_too_small_to_tell_is_not_measured(bench, painter, scenery) -> None:
    assert is_measured([0, 0, 0.2, 0.2, "hue 1"], {"hue 1"})
    assert not is_measured([0, 0, 0.2, 0.05, "hue 1"], {"hue 1"})
    assert not is_measured([0, 0, 0.2, 0.2, "hue 1"], {"hue 2"})
    speck = [0.0, 0.0, 0.05, 0.05, "hue 1"]
    rows = [replace(row, fields={"boxes": [*row.fields["boxes"], speck]}) for row in scenery.rows]
    scenery.rows = rows
    draw = painter()

    assert measure_boxes(PART, bench(draw)).report.boxes_top1.n == 7
    assert len(draw.asked[0]["boxes"]) == 2


def test_a_set_without_boxes_is_left_out(bench, scenery) -> None:
    scenery.rows = [replace(row, fields={}) for row in scenery.rows]
    assert isinstance(measure_boxes(PART, bench()), LeftOut)
    assert isinstance(measure_boxes(BoxesConditioner(("cloud",), 8, 4), bench()), LeftOut)


def test_pieces_are_what_is_in_the_box() -> None:
    pixels = torch.arange(16.0).view(1, 4, 4).expand(3, 4, 4)
    found = pieces(pixels, [(0.5, 0, 1, 0.5, "x"), (0.999, 0.999, 1, 1, "y")], 2)

    assert torch.equal(found[0, 0], torch.tensor([[2.0, 3], [6, 7]]))
    assert torch.equal(found[1, 0], torch.full((2, 2), 15.0))
    assert pieces(pixels, [], 2).shape == (0, 3, 2, 2)


def test_boxes_are_drawn_for_people() -> None:
    square = outlined([[0, 0, 1, 1, "sun"]], 32)
    assert [square.getpixel(place) for place in ((0, 0), (31, 31), (20, 25))] == [(0, 0, 0), (0, 0, 0), (255, 255, 255)]
