"""The names of the classes in a data set's semantic maps, wherever the set says them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from undiffuse.core.errors import DataError
from undiffuse.data.annotations import UNSAID, decode_map, names_of, numbered
from undiffuse.data.layouts.found import Found, json_object, text_of
from undiffuse.data.places import Place
from undiffuse.data.records import Problem

NAMES_FILE = "map_classes.txt"
LOOKED_AT = 256  # maps, when nothing names their classes


def name_classes(found: Found, folder: Path) -> list[str]:
    """Names in the order of their indices; [] when there are no maps.

    Looked for in `map_classes.txt` (one a line), in `dataset.json` (`map_classes`), and in the rows (`classes`:
    names, or how many). Failing these the classes are numbered, as many as the maps show.
    """
    maps = [place for place in found.maps if place is not None]
    said = _from_rows(found)
    if not maps:
        return []
    names = _from_file(folder / NAMES_FILE, found.problems) or _from_summary(folder / "dataset.json") or said
    if names:
        return names
    found.problems.append(Problem(NAMES_FILE, "is missing; the classes of the maps are numbered"))
    return numbered(range(_most(maps) + 1))


def _from_file(path: Path, problems: list[Problem]) -> list[str]:
    if not path.is_file():
        return []
    return [line.strip() for line in text_of(path.read_bytes(), path.name, problems).strip().splitlines()]


def _from_summary(path: Path) -> list[str]:
    if not path.is_file():
        return []
    summary = json_object(path.read_text(encoding="utf-8", errors="replace")) or {}
    return names_of(summary.get("map_classes"))


def _from_rows(found: Found) -> list[str]:
    """What the rows with maps say, taken from their fields; the longest where they disagree."""
    lists: list[list[str]] = []
    for index, (row, place) in enumerate(zip(found.rows, found.maps, strict=True)):
        if place is None or "classes" not in row.fields:
            continue
        fields: dict[str, Any] = dict(row.fields)
        if (names := names_of(fields.pop("classes"))) and names not in lists:
            lists.append(names)
        found.rows[index] = replace(row, fields=fields)
    if len(lists) > 1:
        found.problems.append(Problem("classes", "of the maps are not the same in all rows; the longest list counts"))
    return max(lists, key=len, default=[])


def _most(maps: list[Place]) -> int:
    """The highest class index in a sample of the maps."""
    highest = 0
    for place in maps[:: max(1, len(maps) // LOOKED_AT)]:
        try:
            levels = np.asarray(decode_map(place.read(), place.name))
        except DataError:
            continue  # reported by whoever needs this map
        highest = max(highest, int(levels[levels != UNSAID].max(initial=0)))
    return highest
