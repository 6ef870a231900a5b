"""Data sets that are folders of pictures: with a .txt beside each, with a sub-folder a class, or bare."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from undiffuse.data.decoding import SUFFIXES
from undiffuse.data.layouts.found import SPLITS, Found, text_of
from undiffuse.data.places import Place
from undiffuse.data.records import Row


def read_folder(folder: Path) -> Found:
    """All pictures below `folder`, sorted by path.

    A text file of the same name is the caption. Else the innermost sub-folder is the class. Sub-folders called
    train, val, test and the like give the split.
    """
    found = Found()
    for path in _pictures(folder):
        relative = path.relative_to(folder)
        parents = list(relative.parts[:-1])
        split = SPLITS.get(parents[0].lower(), "") if parents else ""
        if split:
            parents = parents[1:]
        beside = path.with_suffix(".txt")
        name = relative.as_posix()
        if beside.is_file():
            caption = " ".join(text_of(beside.read_bytes(), beside.relative_to(folder).as_posix(), found.problems).split())
            row = Row(name, caption, None, split)
        elif parents:
            row = Row(name, parents[-1].replace("_", " ").replace("-", " "), parents[-1], split)
        else:
            row = Row(name, "", None, split)
        found.add(row, Place(name, path))
    return found


def _pictures(folder: Path) -> Iterator[Path]:
    for here, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__")))
        for name in sorted(files):
            if Path(name).suffix.lower() in SUFFIXES and not name.startswith("."):
                yield Path(here, name)
