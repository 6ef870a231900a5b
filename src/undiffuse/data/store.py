"""Decoded pictures kept in memory, up to a budget; and several sets of pictures as one."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from threading import Lock

import numpy as np
from PIL import Image

from undiffuse.core.errors import DataError
from undiffuse.data.dataset import Pictures
from undiffuse.data.records import Problem, Row


class PictureStore:
    """Reads like the data set behind it, but keeps what it decoded.

    Pictures and maps whose shorter side exceeds `size` are shrunk to it. Once `budget_bytes` are in use, further
    pictures are decoded anew every time. `problems` lists the pictures that could not be read. Threads may share it.
    """

    def __init__(self, pictures: Pictures, size: int, budget_bytes: int) -> None:
        self._pictures = pictures
        self._size = size
        self._left = budget_bytes
        self._kept: dict[int, np.ndarray] = {}
        self._kept_maps: dict[int, np.ndarray] = {}
        self._failed: dict[int, Problem] = {}
        self._lock = Lock()

    @property
    def rows(self) -> list[Row]:
        """The rows of the data set behind it."""
        return self._pictures.rows

    @property
    def map_classes(self) -> list[str]:
        """The classes in the semantic maps of the data set behind it."""
        return self._pictures.map_classes

    @property
    def problems(self) -> list[Problem]:
        """The pictures that could not be read so far, once each."""
        return list(self._failed.values())

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, index: int) -> Image.Image:
        """Picture `index`, a copy that the caller may change.

        Raises:
            DataError: as the data set raises it.
        """
        if index in self._kept:
            return Image.fromarray(self._kept[index])
        try:
            picture = self._shrunk(self._pictures.read(index), Image.Resampling.LANCZOS)
        except DataError as error:
            self._failed.setdefault(index, Problem(self.rows[index].key, str(error)))
            raise
        self._keep(self._kept, index, np.asarray(picture))
        return picture

    def read_map(self, index: int) -> Image.Image | None:
        """The semantic map of picture `index` in mode L, shrunk by nearest neighbour; None when it has none.

        Raises:
            DataError: as the data set raises it.
        """
        if index in self._kept_maps:
            return Image.fromarray(self._kept_maps[index])
        try:
            indices = self._pictures.read_map(index)
        except DataError as error:
            self._failed.setdefault(index, Problem(self.rows[index].key, str(error)))
            raise
        if indices is None:
            return None
        indices = self._shrunk(indices, Image.Resampling.NEAREST)
        self._keep(self._kept_maps, index, np.asarray(indices))
        return indices

    def _shrunk(self, picture: Image.Image, resampling: Image.Resampling) -> Image.Image:
        ratio = self._size / min(picture.size)
        if ratio >= 1:
            return picture
        width, height = (max(1, round(side * ratio)) for side in picture.size)
        return picture.resize((width, height), resampling)

    def _keep(self, kept: dict[int, np.ndarray], index: int, pixels: np.ndarray) -> None:
        with self._lock:
            if index not in kept and pixels.nbytes <= self._left:
                kept[index] = pixels
                self._left -= pixels.nbytes


class Joined:
    """Sets of pictures as one: first all of the first set, then all of the next.

    Their semantic maps stay behind, for the same index may name another class in another set.
    """

    def __init__(self, sets: Sequence[Pictures]) -> None:
        self._sets = list(sets)
        self._starts = list(accumulate((len(one.rows) for one in sets), initial=0))
        self._rows = [row for one in sets for row in one.rows]

    @property
    def rows(self) -> list[Row]:
        """Those of all sets."""
        return self._rows

    @property
    def map_classes(self) -> list[str]:
        """None."""
        return []

    def read(self, index: int) -> Image.Image:
        """Picture `index` of them all.

        Raises:
            DataError: as its set raises it.
        """
        number = bisect_right(self._starts, index) - 1
        return self._sets[number].read(index - self._starts[number])

    def read_map(self, index: int) -> Image.Image | None:
        """None."""
        return None
