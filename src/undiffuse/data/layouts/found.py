"""What every layout reader returns, and the few readings that they share."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from undiffuse.data.annotations import is_box
from undiffuse.data.places import Place
from undiffuse.data.records import Problem, Row

CAPTION_KEYS = ("caption", "text", "prompt")
LABEL_KEYS = ("label", "class")
FILE_KEYS = ("file_name", "file", "image")
MAP_KEYS = ("map", "mask")
MAP_SUFFIXES = (".map.png", ".mask.png")
SPLITS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "val",
}


@dataclass
class Found:
    """Rows and where their pictures and maps lie, side by side, with what could not be used.

    A row whose set says nothing of splits has split "".
    """

    rows: list[Row] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)
    maps: list[Place | None] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def add(self, row: Row, place: Place, index_map: Place | None = None) -> None:
        """Add one picture, perhaps with its semantic map; boxes that are none are noted and left out."""
        self.rows.append(self._with_boxes(row))
        self.places.append(place)
        self.maps.append(index_map)

    def _with_boxes(self, row: Row) -> Row:
        if "boxes" not in row.fields:
            return row
        boxes = row.fields["boxes"] or []
        given = boxes if isinstance(boxes, list) else [boxes]
        usable = [box for box in given if is_box(box)]
        if len(usable) < len(given):
            wrong = next(box for box in given if not is_box(box))
            self.problems.append(
                Problem(row.key, f"has a box that is none: {wrong!r}; [left, top, right, bottom, label] is needed")
            )
        return replace(row, fields={**row.fields, "boxes": usable})


def row_from(key: str, raw: Mapping[str, Any]) -> Row:
    """A row from one JSON object: caption, label and split under any of their usual names, the rest as fields."""
    taken = {*CAPTION_KEYS, *LABEL_KEYS, *FILE_KEYS, "split", *(name for name in MAP_KEYS if isinstance(raw.get(name), str))}
    rest = {name: value for name, value in raw.items() if name not in taken}
    caption = next((raw[name] for name in CAPTION_KEYS if isinstance(raw.get(name), str)), "")
    label = next((str(raw[name]) for name in LABEL_KEYS if raw.get(name) is not None), None)
    return Row(key, caption.strip(), label, SPLITS.get(str(raw.get("split")), ""), rest)


def map_file(raw: Mapping[str, Any]) -> str:
    """The file of the semantic map that one JSON object names; "" when it names none."""
    return next((raw[name] for name in MAP_KEYS if isinstance(raw.get(name), str)), "")


def text_of(data: bytes, name: str, problems: list[Problem]) -> str:
    """Text as UTF-8; another encoding is read as Latin-1 and noted."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        problems.append(Problem(name, "is not UTF-8; read as Latin-1"))
        return data.decode("latin-1")


def json_lines(path: Path, problems: list[Problem]) -> list[dict[str, Any]]:
    """The objects of a JSON-lines file; lines that are none are noted and left out."""
    objects = []
    for number, line in enumerate(text_of(path.read_bytes(), path.name, problems).split("\n"), start=1):
        if not line.strip():
            continue
        parsed = json_object(line)
        if parsed is None:
            problems.append(Problem(f"{path.name} line {number}", "is not a JSON object"))
        else:
            objects.append(parsed)
    return objects


def json_object(text: str) -> dict[str, Any] | None:
    """The JSON object in this text, if it is one."""
    try:
        parsed = json.loads(text)
    except ValueError:
        return None
    return parsed if isinstance(parsed, dict) else None
