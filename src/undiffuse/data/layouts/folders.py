"""Data sets that are folders of pictures: with a .txt beside each, with a sub-folder a class, or bare."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from undiffuse.data.decoding import SUFFIXES
from undiffuse.data.layouts.found import MAP_SUFFIXES, SPLITS, Found, text_of
from undiffuse.data.layouts.map_classes import NAMES_FILE
from undiffuse.data.places import Place
from undiffuse.data.records import Problem, Row


def read_folder(folder: Path) -> Found:
    """All pictures below `folder`, sorted by path.

    A text file of the same name is the caption, a `.map.png` of the same name the semantic map. Without a text
    file the innermost sub-folder is the class. Sub-folders called train, val, test and the like give the split.
    """
    found = Found()
    files = list(_pictures(folder))
    maps, without_picture = _maps(files)
    if (folder / NAMES_FILE).is_file():
        for path in without_picture:
            found.problems.append(Problem(path.relative_to(folder).as_posix(), "is a map without its picture"))
        files = [path for path in files if path not in without_picture]
    taken = set(maps.values())
    for path in (file for file in files if file not in taken):
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
        index_map = maps.get(path)
        found.add(row, Place(name, path), Place(index_map.relative_to(folder).as_posix(), index_map) if index_map else None)
    return found


def _maps(files: list[Path]) -> tuple[dict[Path, Path], set[Path]]:
    """The map of each picture that has one, and the files that are called maps but have no picture."""
    called = {file: suffix for file in files for suffix in MAP_SUFFIXES if file.name.lower().endswith(suffix)}
    pictures = {file.with_suffix(""): file for file in reversed(files) if file not in called}
    maps: dict[Path, Path] = {}
    without_picture: set[Path] = set()
    for file, suffix in called.items():
        picture = pictures.get(file.with_name(file.name[: -len(suffix)]))
        if picture is None:
            without_picture.add(file)
        else:
            maps.setdefault(picture, file)
    return maps, without_picture


def _pictures(folder: Path) -> Iterator[Path]:
    for here, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__")))
        for name in sorted(files):
            if Path(name).suffix.lower() in SUFFIXES and not name.startswith("."):
                yield Path(here, name)
