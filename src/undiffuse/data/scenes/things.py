"""The cut-outs that scenes are made of, by style, class and side of the split."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image

from undiffuse.core.errors import DataError, explain
from undiffuse.data.dataset import Dataset
from undiffuse.data.render import is_cutout
from undiffuse.data.scenes.classes import class_of, habitat_of

KEPT = 1024  # decoded cut-outs
FULLEST = 0.97  # of its box that a cut-out may fill: fuller ones are pictures with a scene of their own
FEWEST_PIXELS = 8


@dataclass(frozen=True)
class Kind:
    """One (concept, style) pair that scenes may show: the row of its cut-out, its class, where it may be, its split."""

    index: int
    concept: str
    style: str
    map_class: str
    habitat: str
    split: str


class Things:
    """What may be shown, and the cut-outs themselves, trimmed to what is seen of them.

    Raises:
        DataError: when the set holds no cut-outs that can be used.
    """

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._by: dict[tuple[str, str], list[Kind]] = defaultdict(list)
        for index, row in enumerate(dataset.rows):
            style = str(row.fields.get("style", ""))
            if style and (map_class := class_of(row.fields)):
                concept = str(row.fields["concept"])
                kind = Kind(index, concept, style, map_class, habitat_of(concept), row.split)
                self._by[style, map_class].append(kind)
        self.styles = sorted({style for style, _ in self._by})
        if not self.styles:
            given = f"{dataset.path} holds no things to put into scenes"
            raise DataError(explain(given, "the emoji data set is needed", "undiffuse data build emoji"))
        self.art = lru_cache(maxsize=KEPT)(self._trimmed)

    def of(self, style: str, map_class: str) -> list[Kind]:
        """The kinds of this style and class, in the order of the data set."""
        return self._by.get((style, map_class), [])

    def _trimmed(self, index: int) -> Image.Image | None:
        """The cut-out without its empty border; None when it is unreadable, opaque, or next to nothing."""
        try:
            picture = self._dataset.read(index)
        except DataError:
            return None
        if not is_cutout(picture):
            return None
        solid = np.asarray(picture.getchannel("A")) > 127
        rows, columns = np.flatnonzero(solid.any(1)), np.flatnonzero(solid.any(0))
        if min(len(rows), len(columns)) < FEWEST_PIXELS:
            return None
        box = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
        if solid[box[1] : box[3], box[0] : box[2]].mean() > FULLEST:
            return None
        return picture.crop(box)
