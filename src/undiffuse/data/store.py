"""Decoded pictures kept in memory, up to a budget."""

from __future__ import annotations

from threading import Lock

import numpy as np
from PIL import Image

from undiffuse.core.errors import DataError
from undiffuse.data.dataset import Pictures
from undiffuse.data.records import Problem, Row


class PictureStore:
    """Reads like the data set behind it, but keeps what it decoded.

    Pictures whose shorter side exceeds `size` are shrunk to it. Once `budget_bytes` are in use, further
    pictures are decoded anew every time. `problems` lists the pictures that could not be read. Threads may share it.
    """

    def __init__(self, pictures: Pictures, size: int, budget_bytes: int) -> None:
        self._pictures = pictures
        self._size = size
        self._left = budget_bytes
        self._kept: dict[int, np.ndarray] = {}
        self._failed: dict[int, Problem] = {}
        self._lock = Lock()

    @property
    def rows(self) -> list[Row]:
        """The rows of the data set behind it."""
        return self._pictures.rows

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
            picture = self._shrunk(self._pictures.read(index))
        except DataError as error:
            self._failed.setdefault(index, Problem(self.rows[index].key, str(error)))
            raise
        self._keep(index, np.asarray(picture))
        return picture

    def _shrunk(self, picture: Image.Image) -> Image.Image:
        ratio = self._size / min(picture.size)
        if ratio >= 1:
            return picture
        width, height = (max(1, round(side * ratio)) for side in picture.size)
        return picture.resize((width, height), Image.Resampling.LANCZOS)

    def _keep(self, index: int, pixels: np.ndarray) -> None:
        with self._lock:
            if index not in self._kept and pixels.nbytes <= self._left:
                self._kept[index] = pixels
                self._left -= pixels.nbytes
