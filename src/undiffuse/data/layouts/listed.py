"""Data sets whose pictures are listed in a JSON-lines file beside them."""

from __future__ import annotations

import os
from pathlib import Path

from undiffuse.data.layouts.found import FILE_KEYS, Found, json_lines, map_file, row_from
from undiffuse.data.places import Place
from undiffuse.data.records import Problem


def read_list(table: Path) -> Found:
    """`metadata.jsonl` (file_name, text) or `captions.jsonl` (file, caption); further keys become fields.

    `map` or `mask` names the file of a semantic map.
    """
    found = Found()
    folder = Path(os.path.abspath(table.parent))
    for raw in json_lines(table, found.problems):
        name = next((str(raw[key]) for key in FILE_KEYS if key in raw), "")
        path = Path(os.path.normpath(folder / name))
        if not name:
            found.problems.append(Problem(table.name, f"a line names no file (one of {', '.join(FILE_KEYS)}): {raw}"))
        elif not path.is_relative_to(folder):
            found.problems.append(Problem(name, "lies outside the folder of the data set"))
        elif not path.is_file():
            found.problems.append(Problem(name, f"is listed in {table.name} and missing"))
        else:
            found.add(row_from(name, raw), Place(name, path), _map_place(folder, map_file(raw), table.name, found))
    return found


def _map_place(folder: Path, name: str, table: str, found: Found) -> Place | None:
    """Where a map lies that the table names; None, with a problem, when it lies nowhere."""
    path = Path(os.path.normpath(folder / name))
    if not name:
        return None
    if not path.is_relative_to(folder):
        found.problems.append(Problem(name, "lies outside the folder of the data set"))
    elif not path.is_file():
        found.problems.append(Problem(name, f"is a map that {table} lists, and missing"))
    else:
        return Place(name, path)
    return None
