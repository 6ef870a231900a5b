"""`Bench`: what every measurement of a context needs: pictures to show, a model that draws, features that compare."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from undiffuse.core.errors import DataError
from undiffuse.core.pictures import to_images, to_pixels
from undiffuse.core.random import numpy_stream, stream_seed
from undiffuse.data.annotations import Box, is_box
from undiffuse.data.crop import Cut
from undiffuse.data.dataset import Pictures
from undiffuse.data.records import Problem, Progress, Row
from undiffuse.data.render import is_cutout
from undiffuse.evaluation.features import LocalExtractor, Skip, pixels_on_white
from undiffuse.evaluation.report import Report

Draw = Callable[[Sequence[Mapping[str, Any]]], Tensor]
"""Draws one picture for each of these requests, told by their fields: (B, 3, H, W) in [-1, 1] on the CPU."""

SHOWN = 8  # pictures of a context on a sheet


@dataclass(frozen=True)
class View:
    """A real picture as the model sees it: a square, with its map (size, size) uint8 and its boxes, cut along."""

    row: Row
    image: Image.Image
    map: np.ndarray | None
    boxes: list[Box]

    @property
    def pixels(self) -> Tensor:
        """The picture (3, size, size) in [-1, 1]."""
        return to_pixels(self.image)


class Triple(NamedTuple):
    """What was given, what was drawn, and the original, for people to look at."""

    given: Image.Image
    drawn: Image.Image
    original: Image.Image


@dataclass(frozen=True)
class Measured:
    """The figures of one context, and the first few pictures that they were measured on."""

    report: Report
    shown: list[Triple]


@dataclass(frozen=True)
class LeftOut:
    """Why a context that the model learned was not measured."""

    reason: str


@dataclass(frozen=True)
class Bench:
    """Pictures of a data set, the model under test, and the features.

    Args:
        pictures: both splits: validation pictures are shown to the model, training pictures are references.
        draw: the model.
        extractor: gives the features.
        size: side in pixels at which the model draws.
        words: whether the model reads captions.
        count: validation pictures for each context, at most.
        seed: of the choice of pictures, of masks, and of the drawing.
        batch: pictures at once; it does not change which are drawn.
        tell: told after every batch.
        skip: told of pictures that cannot be read; when None such a picture is an error.
    """

    pictures: Pictures
    draw: Draw
    extractor: LocalExtractor
    size: int
    words: bool
    count: int
    seed: int
    batch: int
    tell: Progress
    skip: Skip | None = None

    def order(self, split: str, context: str, wanted: Callable[[Row], bool] = bool) -> list[int]:
        """Indices of the wanted pictures of a split, in an order by chance."""
        found = [index for index, row in enumerate(self.pictures.rows) if row.split == split and wanted(row)]
        return [found[place] for place in numpy_stream("evaluate", context, split, self.seed).permutation(len(found))]

    def views(self, indices: Iterable[int], wanted: Callable[[View], bool] = bool) -> Iterator[View]:
        """These pictures, but for those that are not wanted after all or cannot be read.

        Raises:
            DataError: when a picture cannot be read and nobody is told.
        """
        for index in indices:
            try:
                view = see(self.pictures, index, self.size)
            except DataError as error:
                if self.skip is None:
                    raise
                self.skip(Problem(self.pictures.rows[index].key, str(error)))
                continue
            if wanted(view):
                yield view

    def request(self, view: View, context: str, number: int, words: bool = True, **said: Any) -> dict[str, Any]:
        """The fields of a request that says this, and the caption if the model reads any; picture `number` of a context."""
        prompt = {"prompt": view.row.caption} if words and self.words else {}
        return {**prompt, **said, "seed": stream_seed("evaluate", context, self.seed, number)}

    def drawn(
        self, views: Sequence[View], requests: Sequence[Mapping[str, Any]], context: str
    ) -> Iterator[tuple[range, Tensor]]:
        """The pictures (B, 3, H, W) of these requests in batches, with the numbers of their views; telling how far it is."""
        for start in range(0, len(views), self.batch):
            numbers = range(start, min(start + self.batch, len(views)))
            yield numbers, self.draw([requests[number] for number in numbers])
            self.tell(numbers.stop, len(views), context)

    def described(self, items: Iterable[tuple[str, Tensor]], total: int) -> tuple[list[str], Tensor]:
        """Names and features (N, D) of named pictures (3, H, W) of one size, `total` of them about."""
        names: list[str] = []
        features: list[Tensor] = [torch.empty(0, 1)]
        source = iter(items)
        while some := list(islice(source, self.batch)):
            names += [name for name, _ in some]
            features.append(self.extractor(torch.stack([pixels for _, pixels in some])))
            self.tell(min(len(names), total), total, "real pictures")
        return names, torch.cat(features[1:] or features)


def see(pictures: Pictures, index: int, size: int) -> View:
    """Picture `index` as a square: a cut-out whole on white, without map and boxes, any other one cut from its centre.

    Raises:
        DataError: when picture or map cannot be read.
    """
    picture, row = pictures.read(index), pictures.rows[index]
    if is_cutout(picture):
        return View(row, to_images(pixels_on_white(picture, size)[None])[0], None, [])
    cut, indices = Cut(size), pictures.read_map(index)
    boxes = cut.boxes(filter(is_box, row.fields.get("boxes") or ()), picture.size)
    return View(row, cut.picture(picture), None if indices is None else cut.map(indices, picture.size), boxes)


def feature_distances(extractor: Callable[[Tensor], Tensor], a: Tensor, b: Tensor) -> Tensor:
    """Cosine distances (B,) of the features of pictures (B, 3, H, W), 0 for equal ones."""
    return (1 - F.cosine_similarity(extractor(a), extractor(b))).clamp_min(0)  # rounding


def pieces(pixels: Tensor, boxes: Iterable[Sequence[Any]], size: int) -> Tensor:
    """What is in each box (left, top, right, bottom, ...; 0 to 1) of a picture (3, H, W), stretched: (N, 3, size, size)."""
    height, width = pixels.shape[1:]
    found = []
    for left, top, right, bottom, *_ in boxes:
        x, y = min(int(left * width), width - 1), min(int(top * height), height - 1)
        piece = pixels[:, y : max(y + 1, round(bottom * height)), x : max(x + 1, round(right * width))]
        found.append(F.interpolate(piece[None], (size, size), mode="bilinear", antialias=True)[0])
    return torch.stack(found) if found else pixels.new_empty(0, 3, size, size)
