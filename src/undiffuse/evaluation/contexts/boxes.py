"""Boxes: does something of its label stand in every box?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from undiffuse.conditioners.boxes import BoxesConditioner
from undiffuse.core.pictures import WHITE, to_images
from undiffuse.data.annotations import Box, is_box
from undiffuse.data.records import Row
from undiffuse.evaluation.contexts.bench import SHOWN, Bench, LeftOut, Measured, Triple, View, pieces
from undiffuse.evaluation.references import Directions, directions_of, ranks
from undiffuse.evaluation.report import Figure, Report
from undiffuse.evaluation.retrieval import TOP, top

REFERENCES = 4000  # boxes of training pictures, evenly over the labels
LEAST_SIDE = 0.1  # of the picture's; smaller boxes are asked for, but not measured


@dataclass(frozen=True)
class BoxesReport(Report):
    """How often what stands in a box is recognised by its nearest pieces of training pictures.

    The model gets the boxes and the caption, if it reads captions. What is in a box, stretched to a square, is
    compared with what is in boxes of training pictures (4,000 at most, evenly over the labels) by the cosine of
    features about their mean; labels are ranked by their highest cosine, ties count against the model. Every box
    with sides of a tenth of the picture's at least counts once. `boxes_top1`, `boxes_top5`: how often its label is
    first, or among the first five. `boxes_elsewhere_top5`: the same for the boxes of another picture, which nobody
    asked for here: what chance gives. `boxes_ceiling_top1`, `boxes_ceiling_top5`: for real validation pictures.
    """

    boxes_top1: Figure
    boxes_top5: Figure
    boxes_elsewhere_top5: Figure
    boxes_ceiling_top1: Figure
    boxes_ceiling_top5: Figure


def measure_boxes(part: BoxesConditioner, bench: Bench) -> Measured | LeftOut:
    """Have `bench.count` pictures drawn by their boxes."""
    known, names = _references(part.classes, bench)
    there = set(names)
    views = _shown(part, there, bench)
    if not views:
        return LeftOut("no label of the model is on boxes in both splits of the data set")
    asked = [fitting(view.boxes, part) for view in views]
    measured = [[box for box in boxes if is_measured(box, there)] for boxes in asked]
    elsewhere = [*measured[1:], *measured[:1]]

    def places(pictures: Sequence[Tensor] | Tensor, boxes: Sequence[Sequence[Box]]) -> list[int]:
        cut = torch.cat([pieces(picture, found, bench.size) for picture, found in zip(pictures, boxes, strict=True)])
        return ranks(known.cosines(bench.extractor(cut)), names, [str(box[4]) for found in boxes for box in found])

    drawn: list[int] = []
    chance: list[int] = []
    real: list[int] = []
    shown: list[Triple] = []
    requests = [bench.request(view, "boxes", k, boxes=tuple(map(tuple, asked[k]))) for k, view in enumerate(views)]
    for numbers, pixels in bench.drawn(views, requests, "boxes"):
        here = [measured[k] for k in numbers]
        drawn += places(pixels, here)
        chance += places(pixels, [elsewhere[k] for k in numbers])
        real += places([views[k].pixels for k in numbers], here)
        for k, image in zip(numbers, to_images(pixels[: max(0, SHOWN - len(shown))]), strict=False):
            shown.append(Triple(outlined(asked[k], bench.size), image, views[k].image))
    return Measured(BoxesReport(top(drawn, 1), top(drawn, TOP), top(chance, TOP), top(real, 1), top(real, TOP)), shown)


def fitting(boxes: Sequence[Box], part: BoxesConditioner) -> list[Box]:
    """The boxes that the model reads: those of its labels, the largest first, as many as it takes."""
    known = [box for box in boxes if box[4] in part.classes]
    return sorted(known, key=lambda box: (box[2] - box[0]) * (box[3] - box[1]), reverse=True)[: part.most]


def is_measured(box: Box, labels: set[str]) -> bool:
    """Whether the box is large enough to tell what is in it, and its label one of these."""
    return min(box[2] - box[0], box[3] - box[1]) >= LEAST_SIDE and box[4] in labels


def outlined(boxes: Sequence[Box], size: int) -> Image.Image:
    """A white square with the boxes and their labels."""
    square = Image.new("RGB", (size, size), WHITE)
    pen = ImageDraw.Draw(square)
    for left, top_side, right, bottom, label in boxes:
        corner = (round(left * (size - 1)), round(top_side * (size - 1)))
        pen.rectangle((*corner, round(right * (size - 1)), round(bottom * (size - 1))), outline="black")
        pen.text((corner[0] + 2, corner[1] + 1), label, fill="black")
    return square


def _shown(part: BoxesConditioner, labels: set[str], bench: Bench) -> list[View]:
    """Validation pictures with a box that can be measured."""
    views = bench.views(
        bench.order("val", "boxes", has_boxes), lambda view: any(is_measured(box, labels) for box in fitting(view.boxes, part))
    )
    return list(islice(views, bench.count))


def _references(classes: Sequence[str], bench: Bench) -> tuple[Directions, list[str]]:
    """Features of what is in boxes of training pictures, and the label of each."""
    left = dict.fromkeys(classes, max(1, REFERENCES // len(classes)))  # wanted still, of every label

    def found() -> Iterator[tuple[str, Tensor]]:
        for index in bench.order("train", "boxes", has_boxes):
            if not any(left.get(box[4]) for box in filter(is_box, bench.pictures.rows[index].fields["boxes"])):
                continue
            for view in bench.views([index]):
                wanted = [box for box in view.boxes if left.get(box[4]) and is_measured(box, set(left))]
                for box, piece in zip(wanted, pieces(view.pixels, wanted, bench.size), strict=True):
                    left[box[4]] -= 1
                    yield box[4], piece

    names, features = bench.described(found(), sum(left.values()))
    return directions_of(features), names


def has_boxes(row: Row) -> bool:
    """Whether any box is told of the picture."""
    return bool(row.fields.get("boxes"))
