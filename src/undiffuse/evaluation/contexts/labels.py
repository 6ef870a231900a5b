"""Class labels: is what the model draws of a class recognised as one of it?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from PIL import Image, ImageDraw

from undiffuse.conditioners.labels import LabelConditioner
from undiffuse.conditioners.text import TextConditioner
from undiffuse.core.pictures import WHITE, to_images
from undiffuse.data.records import Row
from undiffuse.evaluation.contexts.bench import SHOWN, Bench, LeftOut, Measured, Triple
from undiffuse.evaluation.references import directions_of, ranks
from undiffuse.evaluation.report import Figure, Report
from undiffuse.evaluation.retrieval import TOP, top

FEWEST = 2  # classes: one is always the right one
REFERENCES = 16_000  # training pictures, evenly over the classes


@dataclass(frozen=True)
class LabelReport(Report):
    """How often a picture drawn of a class is recognised by its nearest training pictures.

    The model gets the label alone, no caption. The score of a class is the highest cosine of features, about their
    mean, to any of its training pictures (16,000 at most, evenly over the classes); classes are ranked by score, and
    ties count against the model. `label_top1`, `label_top5`: how often the class that was asked for is first, or
    among the first five. `label_ceiling_top1`, `label_ceiling_top5`: the same for real validation pictures. Classes
    are asked for as often as they are in the validation split.
    """

    label_top1: Figure
    label_top5: Figure
    label_ceiling_top1: Figure
    label_ceiling_top5: Figure


def measure_labels(part: LabelConditioner | TextConditioner, bench: Bench) -> Measured | LeftOut:
    """Have `bench.count` pictures drawn by their class."""
    field = label_field(bench.pictures.rows, part.classes)
    classes = set(part.classes)
    order = bench.order("train", "label", lambda row: label_in(row, field) in classes)
    labelled = {index: str(label_in(bench.pictures.rows[index], field)) for index in order}
    if len(set(labelled.values())) < FEWEST:
        return LeftOut(f"of the classes of the model fewer than {FEWEST} are in the data set")
    chosen = evenly(labelled, REFERENCES)
    trained = ((str(label_in(view.row, field)), view.pixels) for view in bench.views(chosen))
    names, features = bench.described(trained, len(chosen))
    there = set(names)
    views = list(islice(bench.views(bench.order("val", "label", lambda row: label_in(row, field) in there)), bench.count))
    if not views:
        return LeftOut("no class of the model is in both splits of the data set")
    known = directions_of(features)
    labels = [str(label_in(view.row, field)) for view in views]
    drawn: list[int] = []
    real: list[int] = []
    shown: list[Triple] = []
    requests = [bench.request(view, "label", k, words=False, label=labels[k]) for k, view in enumerate(views)]
    for numbers, pixels in bench.drawn(views, requests, "label"):
        some, right = [views[k] for k in numbers], [labels[k] for k in numbers]
        drawn += ranks(known.cosines(bench.extractor(pixels)), names, right)
        real += ranks(known.cosines(bench.extractor(torch.stack([view.pixels for view in some]))), names, right)
        images = to_images(pixels[: max(0, SHOWN - len(shown))])
        shown += [Triple(written(right[k], bench.size), image, some[k].image) for k, image in enumerate(images)]
    return Measured(LabelReport(top(drawn, 1), top(drawn, TOP), top(real, 1), top(real, TOP)), shown)


def label_field(rows: Sequence[Row], classes: Sequence[str]) -> str | None:
    """The field that a model of these classes took its labels from; None for the rows' own labels."""
    known = set(classes)
    if any(row.label in known for row in rows):
        return None
    hits = Counter(name for row in rows for name, value in row.fields.items() if isinstance(value, str) and value in known)
    return hits.most_common(1)[0][0] if hits else None


def label_in(row: Row, field: str | None) -> str | None:
    """The label of a row: its own, or that in a field."""
    return row.label if field is None else row.fields.get(field)


def written(text: str, size: int) -> Image.Image:
    """A white square with a word on it."""
    square = Image.new("RGB", (size, size), WHITE)
    ImageDraw.Draw(square).multiline_text((size // 16, size // 3), text.replace(" ", "\n"), fill="black")
    return square


def evenly(labels: Mapping[int, str], most: int) -> list[int]:
    """Of pictures and their labels so many of each label, `most` in all, as far as there are so many."""
    places: Counter[str] = Counter()
    share = max(1, most // max(1, len(set(labels.values()))))
    chosen = []
    for index, label in labels.items():
        places[label] += 1
        if places[label] <= share:
            chosen.append(index)
    return chosen
