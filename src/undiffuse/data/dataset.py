"""`open_dataset`: any of the usual layouts on disk as one list of rows and a way to read their pictures."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, Protocol

from PIL import Image

from undiffuse.core.errors import DataError, UsageError, explain
from undiffuse.core.random import stream_seed
from undiffuse.data.annotations import decode_map, unsaid_beyond
from undiffuse.data.decoding import decode
from undiffuse.data.layouts.folders import read_folder
from undiffuse.data.layouts.found import Found, json_object
from undiffuse.data.layouts.listed import read_list
from undiffuse.data.layouts.map_classes import name_classes
from undiffuse.data.layouts.shards import names_shards, read_built, read_tars
from undiffuse.data.places import Place
from undiffuse.data.records import Problem, Row

Split = Literal["train", "val", "all"]
HELD_OUT_SHARE = 0.05


class Pictures(Protocol):
    """What rendering needs: rows, and the picture of each, with its semantic map if it has one.

    Data sets and picture stores both have it.
    """

    @property
    def rows(self) -> list[Row]: ...

    @property
    def map_classes(self) -> list[str]: ...

    def read(self, index: int) -> Image.Image: ...

    def read_map(self, index: int) -> Image.Image | None: ...


@dataclass(frozen=True)
class Dataset:
    """Pictures on disk: `rows[i]` says what picture i shows, `read(i)` decodes it.

    `classes` are the labels of the whole set, sorted, and `map_classes` the classes in its semantic maps, in the
    order of their indices; both are the same in every split. `problems` are the files that were left out or needed
    care when the set was opened.
    """

    path: Path
    layout: str
    rows: list[Row]
    places: list[Place]
    classes: list[str]
    problems: list[Problem]
    map_classes: list[str] = field(default_factory=list)
    maps: list[Place | None] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, index: int) -> Image.Image:
        """Picture `index`, upright, 8-bit, in mode RGB or RGBA.

        Raises:
            DataError: the file is missing, damaged or no usable picture; the message names it.
        """
        place = self.places[index]
        return decode(place.read(), place.name).image

    def read_map(self, index: int) -> Image.Image | None:
        """The semantic map of picture `index`, one class index a pixel in mode L, 255 where nothing is said; or None.

        Indices that name no class become 255.

        Raises:
            DataError: the file is missing, damaged or no map; the message names it.
        """
        place = self.maps[index] if self.maps else None
        if place is None:
            return None
        return unsaid_beyond(decode_map(place.read(), place.name), len(self.map_classes))


def open_dataset(path: str | Path, split: Split = "all") -> Dataset:
    """Open a data set: our built form, a folder with .txt captions, metadata.jsonl or captions.jsonl, class
    sub-folders, a bare folder of pictures, or WebDataset tars. Semantic maps and boxes come along where there are any.

    A set that names no split is divided by a hash of each key, the same way every time: 5 % for validation.

    Raises:
        DataError: nothing usable lies there.
        UsageError: the split is none of train, val, all.
    """
    if split not in ("train", "val", "all"):
        raise UsageError(explain(f"split = {split!r}", "allowed are train, val and all"))
    path = Path(path)
    layout, found = _read(path)
    if not found.rows:
        reasons = "; ".join(f"{problem.name} {problem.reason}" for problem in found.problems[:3])
        raise DataError(
            explain(
                f"{path} holds no usable picture" + (f" ({reasons})" if reasons else ""),
                "a data set is a folder of pictures, with captions in .txt files, metadata.jsonl or sub-folders, or tar shards",
                "see the guide on data sets",
            )
        )
    map_classes = name_classes(found, path if path.is_dir() else path.parent)
    rows = _with_splits(found.rows)
    keep = [index for index, row in enumerate(rows) if split in ("all", row.split)]
    return Dataset(
        path=path,
        layout=layout,
        rows=[rows[index] for index in keep],
        places=[found.places[index] for index in keep],
        classes=sorted({row.label for row in rows if row.label is not None}),
        problems=found.problems,
        map_classes=map_classes,
        maps=[found.maps[index] for index in keep],
    )


def _read(path: Path) -> tuple[str, Found]:
    """The name of the layout that lies at `path`, and what it holds."""
    if path.is_file() and path.suffix == ".tar":
        return "tar shards", read_tars([path])
    if not path.is_dir():
        given = f"{path} is no folder and no .tar file" if path.exists() else f"{path} is not there"
        raise DataError(explain(given, "a folder or a .tar file is needed", "check the path"))
    _refuse_unfinished(path)
    lists = [table for name in ("metadata.jsonl", "captions.jsonl") if (table := path / name).is_file()]
    tars = sorted(path.glob("*.tar"))
    table = path / "captions.jsonl"
    if table.is_file() and ((path / "shards").is_dir() or (tars and names_shards(table))):
        return "built", read_built(path)
    if lists:
        return lists[0].name, read_list(lists[0])
    if tars:
        return "tar shards", read_tars(tars)
    return "folder", read_folder(path)


def _refuse_unfinished(path: Path) -> None:
    marker = path / "dataset.json"
    summary = json_object(marker.read_text(encoding="utf-8", errors="replace")) if marker.is_file() else None
    if summary is not None and summary.get("complete") is False:
        raise DataError(explain(f"{path} holds a build that was stopped", "only whole builds open", "run the same build again"))


def _with_splits(rows: list[Row]) -> list[Row]:
    """Rows that all have a split: their own, or one by hash when the whole set names none."""
    if any(row.split for row in rows):
        return [row if row.split else replace(row, split="train") for row in rows]
    ranks = [stream_seed("split", row.key) / 2**63 for row in rows]
    border = max(HELD_OUT_SHARE, min(ranks) * (1 + 1e-9)) if len(rows) > 1 else 0.0  # at least one for validation
    return [replace(row, split="val" if rank < border else "train") for row, rank in zip(rows, ranks, strict=True)]
