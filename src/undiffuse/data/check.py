"""`check_dataset`: what is in a data set, what is wrong with it, and what a newcomer should know before training."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from undiffuse.core.errors import DataError
from undiffuse.data.check_annotations import Annotations
from undiffuse.data.dataset import Dataset, open_dataset
from undiffuse.data.decoding import decode
from undiffuse.data.records import Problem, Progress, Row

SIZE_BANDS = (32, 64, 128, 256, 512, 1024, 2048)
FEW_PICTURES = 200
FEW_PER_CLASS = 20
LONG_CAPTION = 60  # words; about what a text encoder of 77 tokens takes
NAMED = 10  # of a kind, in the text


@dataclass
class Report:
    """What `check_dataset` found; counts are of pictures that can be read, unless said otherwise."""

    path: str
    layout: str
    size: int
    listed: int
    readable: int = 0
    splits: dict[str, int] = field(default_factory=dict)
    classes: dict[str, int] = field(default_factory=dict)
    maps: int = 0
    map_classes: dict[str, int] = field(default_factory=dict)
    boxes: int = 0
    box_labels: dict[str, int] = field(default_factory=dict)
    shorter_sides: dict[str, int] = field(default_factory=dict)
    smaller_than_size: int = 0
    cutouts: int = 0
    captions_missing: int = 0
    captions_repeated: int = 0
    longest_caption: str = ""
    duplicates: list[list[str]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    remarks: list[Problem] = field(default_factory=list)
    advice: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain data, for JSON."""
        return asdict(self)

    def lines(self) -> list[str]:
        """The report as text, a line at a time."""
        parts = [
            f"{self.path}: {self.readable} of {self.listed} pictures can be read ({self.layout})",
            _counts("split", self.splits),
            _counts("class", self.classes),
            _counts("shorter side", self.shorter_sides),
            f"semantic maps: {self.maps}" if self.maps else "",
            _counts("class in maps", self.map_classes),
            f"boxes: {self.boxes}" if self.boxes else "",
            _counts("label of boxes", self.box_labels),
            f"cut-outs with transparency: {self.cutouts}" if self.cutouts else "",
            f"without a caption: {self.captions_missing}" if self.captions_missing else "",
            f"with a caption that another picture has too: {self.captions_repeated}" if self.captions_repeated else "",
            f"longest caption: {len(self.longest_caption.split())} words" if self.longest_caption else "",
            *_named("cannot be used", self.problems),
            *_named("read with care", self.remarks),
            *(f"the same picture: {', '.join(keys)}" for keys in self.duplicates[:NAMED]),
            *(f"advice: {sentence}" for sentence in self.advice),
        ]
        return [part for part in parts if part]


def check_dataset(path: str | Path, size: int = 128, progress: Progress | None = None) -> Report:
    """Open and decode every picture of a data set, for training at `size` pixels.

    Raises:
        DataError: nothing usable lies at `path`.
    """
    dataset = open_dataset(path, "all")
    report = Report(str(path), dataset.layout, size, listed=len(dataset), problems=list(dataset.problems))
    same: dict[str, list[str]] = {}
    annotations = Annotations()
    sides: list[int] = []
    rows: list[Row] = []
    for index, row in enumerate(dataset.rows):
        if progress is not None and index % 16 == 0:
            progress(index, len(dataset), "reading")
        picture = _read(dataset, index, report)
        if picture is not None:
            rows.append(row)
            sides.append(min(picture.size))
            report.cutouts += picture.mode == "RGBA"
            same.setdefault(_digest(picture), []).append(row.key)
            annotations.look_at(dataset, index, picture.size)
    report.readable = len(rows)
    report.duplicates = [keys for keys in same.values() if len(keys) > 1]
    _count_sides(report, sides)
    _count_rows(report, rows)
    _count_annotations(report, annotations, dataset.map_classes)
    report.advice = _advice(report)
    return report


def _read(dataset: Dataset, index: int, report: Report) -> Image.Image | None:
    """Picture `index`; or None, with the reason among the problems."""
    place = dataset.places[index]
    try:
        decoded = decode(place.read(), place.name)
    except DataError as error:
        report.problems.append(Problem(place.name, str(error).removeprefix(place.name).strip()))
        return None
    report.remarks += [Problem(place.name, remark) for remark in decoded.remarks]
    return decoded.image


def _digest(picture: Image.Image) -> str:
    return hashlib.sha256(f"{picture.mode} {picture.size}".encode() + picture.tobytes()).hexdigest()


def _count_sides(report: Report, sides: list[int]) -> None:
    report.shorter_sides = dict(Counter(_band(side) for side in sorted(sides)))
    report.smaller_than_size = sum(side < report.size for side in sides)


def _band(side: int) -> str:
    """The band of sizes that this side falls into."""
    upper = bisect_right(SIZE_BANDS, side)
    if upper == 0:
        return f"below {SIZE_BANDS[0]}"
    if upper == len(SIZE_BANDS):
        return f"{SIZE_BANDS[-1]} and more"
    return f"{SIZE_BANDS[upper - 1]} to {SIZE_BANDS[upper] - 1}"


def _count_rows(report: Report, rows: list[Row]) -> None:
    report.splits = dict(Counter(row.split for row in rows))
    report.classes = dict(sorted(Counter(row.label for row in rows if row.label is not None).items()))
    captions = Counter(row.caption for row in rows)
    report.captions_missing = captions.pop("", 0)
    report.captions_repeated = sum(count for count in captions.values() if count > 1)
    report.longest_caption = max(captions, key=lambda caption: len(caption.split()), default="")


def _count_annotations(report: Report, annotations: Annotations, names: list[str]) -> None:
    report.maps, report.boxes = annotations.maps, annotations.boxes
    report.map_classes = annotations.map_classes(names)
    report.box_labels = dict(annotations.labels.most_common())
    report.problems += annotations.problems
    report.remarks += annotations.remarks


def _advice(report: Report) -> list[str]:
    """Plain sentences about what may disappoint later."""
    advice = []
    if report.problems:
        advice.append(f"{len(report.problems)} files or lines cannot be used; training passes over them.")
    if report.smaller_than_size:
        small = f"{report.smaller_than_size} pictures are smaller than {report.size} pixels"
        advice.append(f"{small}; they will be enlarged and look soft.")
    if report.captions_missing:
        advice.append(f"{report.captions_missing} pictures have no caption; words cannot be learnt from them.")
    if copies := sum(len(keys) - 1 for keys in report.duplicates):
        advice.append(f"{copies} pictures are exact copies of others; consider deleting them.")
    if report.readable < FEW_PICTURES:
        advice.append(f"{report.readable} pictures are few; start from a trained model, or expect it to repeat them.")
    if few := [name for name, count in report.classes.items() if count < FEW_PER_CLASS]:
        advice.append(f"{len(few)} classes have fewer than {FEW_PER_CLASS} pictures: {', '.join(few[:NAMED])}.")
    if (words := len(report.longest_caption.split())) > LONG_CAPTION:
        advice.append(f"The longest caption has {words} words; text encoders read about {LONG_CAPTION}.")
    if 0 < report.maps < report.readable:
        advice.append(f"{report.readable - report.maps} pictures have no map; what they show where cannot be learnt from them.")
    if not report.splits.get("val"):
        advice.append("There are no validation pictures; nothing can be measured on unseen ones.")
    return advice


def _counts(what: str, counts: dict[str, int]) -> str:
    shown = [f"{name} {count}" for name, count in list(counts.items())[:NAMED]]
    more = f", and {len(counts) - NAMED} more" if len(counts) > NAMED else ""
    return f"by {what}: {', '.join(shown)}{more}" if counts else ""


def _named(what: str, problems: list[Problem]) -> list[str]:
    lines = [f"{what}: {problem.name}: {problem.reason}" for problem in problems[:NAMED]]
    more = len(problems) - NAMED
    return [*lines, f"{what}: and {more} more"] if more > 0 else lines
