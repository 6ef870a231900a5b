from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

from undiffuse.core.errors import DataError
from undiffuse.data.dataset import open_dataset
from undiffuse.data.records import Row
from undiffuse.data.store import Joined, PictureStore


class Counting:
    """Pictures that count how often each is read."""

    def __init__(self, size: tuple[int, int] = (40, 20)) -> None:
        self.rows = [Row(str(n), "") for n in range(3)]
        self.reads = [0, 0, 0]
        self.size = size
        self.map_reads = 0

    def read(self, index: int) -> Image.Image:
        self.reads[index] += 1
        if index == 2:
            raise DataError("2 is damaged.")
        return Image.new("RGB", self.size, (index, 0, 0))

    map_classes: ClassVar[list[str]] = ["sky", "sea"]

    def read_map(self, index: int) -> Image.Image | None:
        self.map_reads += 1
        if index == 2:
            raise DataError("map 2 is damaged.")
        return Image.fromarray(np.eye(20, 40, dtype=np.uint8)) if index == 0 else None


def test_pictures_are_decoded_once_within_the_budget() -> None:
    source = Counting()
    store = PictureStore(source, size=20, budget_bytes=40 * 20 * 3)
    for _ in range(3):
        assert [store.read(i).getpixel((0, 0))[0] for i in (0, 1)] == [0, 1]
    assert source.reads == [1, 3, 0]
    assert store.rows is source.rows and len(store) == 3


def test_large_pictures_are_shrunk_and_small_ones_left() -> None:
    assert PictureStore(Counting(), 10, 10**6).read(0).size == (20, 10)
    assert PictureStore(Counting(), 64, 10**6).read(0).size == (40, 20)


def test_copies_may_be_changed() -> None:
    store = PictureStore(Counting(), 20, 10**6)
    store.read(1).putpixel((0, 0), (9, 9, 9))
    store.read(1).putpixel((0, 0), (9, 9, 9))
    assert store.read(1).getpixel((0, 0)) == (1, 0, 0)


def test_failures_are_remembered_once() -> None:
    store = PictureStore(Counting(), 20, 10**6)
    for _ in range(2):
        with pytest.raises(DataError):
            store.read(2)
    assert [(problem.name, problem.reason) for problem in store.problems] == [("2", "2 is damaged.")]


def test_transparency_survives(emoji_like: Path) -> None:
    dataset = open_dataset(emoji_like)
    store = PictureStore(dataset, 32, 10**6)
    store.read(0)
    assert np.array_equal(np.asarray(store.read(0)), np.asarray(dataset.read(0)))


def test_maps_are_kept_within_the_same_budget_and_shrunk_without_mixing() -> None:
    source = Counting()
    store = PictureStore(source, size=10, budget_bytes=20 * 10)
    for _ in range(3):
        indices = store.read_map(0)
        assert indices is not None and (indices.mode, indices.size) == ("L", (20, 10))
        assert np.array_equal(np.asarray(indices), np.eye(10, 20, dtype=np.uint8))
    assert source.map_reads == 1 and store.map_classes == ["sky", "sea"]
    assert store.read_map(1) is None
    store.read(0)
    store.read(0)
    assert source.reads[0] == 2  # the map has used the budget up


def test_maps_that_cannot_be_read_are_remembered() -> None:
    store = PictureStore(Counting(), 20, 10**6)
    with pytest.raises(DataError):
        store.read_map(2)
    assert [problem.reason for problem in store.problems] == ["map 2 is damaged."]


def test_several_sets_are_read_as_one() -> None:
    first, second, third = Counting((40, 20)), Counting((10, 10)), Counting((30, 30))
    second.rows = []
    joined = Joined([first, second, third])
    assert joined.rows == [*first.rows, *third.rows]
    assert [joined.read(index).size for index in (0, 1, 3, 4)] == [(40, 20), (40, 20), (30, 30), (30, 30)]
    assert (first.reads, second.reads, third.reads) == ([1, 1, 0], [0, 0, 0], [1, 1, 0])
    with pytest.raises(DataError):
        joined.read(5)
    assert joined.read_map(0) is None and not joined.map_classes and not first.map_reads
