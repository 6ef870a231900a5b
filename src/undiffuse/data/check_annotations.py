"""What `check_dataset` looks at in semantic maps and boxes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from undiffuse.core.errors import DataError
from undiffuse.data.annotations import UNSAID, decode_map, lies_inside, same_shape
from undiffuse.data.dataset import Dataset
from undiffuse.data.records import Problem


@dataclass
class Annotations:
    """Maps and boxes of the pictures looked at so far: how many, and of what."""

    maps: int = 0
    shown: Counter[int] = field(default_factory=Counter)
    boxes: int = 0
    labels: Counter[str] = field(default_factory=Counter)
    problems: list[Problem] = field(default_factory=list)
    remarks: list[Problem] = field(default_factory=list)

    def look_at(self, dataset: Dataset, index: int, size: tuple[int, int]) -> None:
        """Count what belongs to picture `index` of this size (width, height)."""
        row = dataset.rows[index]
        for box in row.fields.get("boxes") or []:
            self.boxes += 1
            self.labels[box[4]] += 1
            if not lies_inside(box):
                self.problems.append(Problem(row.key, f"has a box outside 0 to 1, the picture's sides: {box}"))
        place = dataset.maps[index] if dataset.maps else None
        if place is None:
            return
        try:
            indices = decode_map(place.read(), place.name)
        except DataError as error:
            self.problems.append(Problem(place.name, str(error).removeprefix(place.name).strip()))
            return
        self.maps += 1
        classes = [int(level) for level in np.unique(np.asarray(indices)) if level != UNSAID]
        self.shown.update(classes)
        if classes and classes[-1] >= len(dataset.map_classes):
            given = f"holds class {classes[-1]}; there are 0 to {len(dataset.map_classes) - 1}, and 255 for nothing"
            self.problems.append(Problem(place.name, given))
        self._compare(place.name, indices.size, size)

    def _compare(self, name: str, size: tuple[int, int], picture: tuple[int, int]) -> None:
        if size == picture:
            return
        sizes = f"is {size[0]} x {size[1]} pixels, its picture {picture[0]} x {picture[1]}"
        if same_shape(size, picture):
            self.remarks.append(Problem(name, f"{sizes}; it is resized"))
        else:
            self.problems.append(Problem(name, f"{sizes}; both must have the same shape"))

    def map_classes(self, names: list[str]) -> dict[str, int]:
        """In how many maps each class is seen, also those in none."""
        return {name: self.shown[index] for index, name in enumerate(names)}
