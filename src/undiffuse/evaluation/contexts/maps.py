"""Semantic maps: does every place of a drawn picture look like the class that its map says?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from undiffuse.conditioners.maps import MapConditioner
from undiffuse.conditioners.palette import paint
from undiffuse.core.pictures import to_images
from undiffuse.data.annotations import UNSAID
from undiffuse.evaluation.contexts.bench import SHOWN, Bench, LeftOut, Measured, Triple, View
from undiffuse.evaluation.contexts.pixels import fit_pixels, local_features
from undiffuse.evaluation.report import Figure, Report, bootstrap

FITTED = 400  # training pictures that the classifier of pixels is fitted on
LOOKED_AT = 128  # pixels on a side: larger pictures are shrunk before their pixels are classified
LEAST_ACCURACY = 1e-9  # below the line of a ratio


@dataclass(frozen=True)
class MapReport(Report):
    """How far a classifier of pixels finds in a picture what its map says: mean class accuracy.

    The classifier tells classes by the look of what is near a pixel and is fitted on training pictures and their
    maps. `map_agreement`: over pictures drawn from the maps of validation pictures (and their captions, if the model
    reads captions), the share of each class's pixels that it takes for that class, averaged over classes.
    `map_agreement_real`: the same for the real pictures of these maps, which is what a perfect model would reach.
    `map_agreement_ratio`: the former for one of the latter. `map_agreement_elsewhere`: the drawn pictures against the
    map of another one: what chance gives.
    """

    map_agreement: Figure
    map_agreement_real: Figure
    map_agreement_ratio: Figure
    map_agreement_elsewhere: Figure


def measure_maps(part: MapConditioner, bench: Bench) -> Measured | LeftOut:
    """Have `bench.count` pictures drawn by their maps."""
    table = renumbering(bench.pictures.map_classes, part.classes)
    trained = _mapped(bench, "train", table, range(len(part.classes)))
    first = next(trained, None)
    if first is None:
        return LeftOut("no training picture has a map with classes of the model")
    classify = fit_pixels(_examples(islice(chain([first], trained), FITTED), table, bench), len(part.classes))
    known = classify.known.nonzero().flatten().tolist()
    views = list(islice(_mapped(bench, "val", table, known), bench.count))
    if not views:
        return LeftOut("no validation picture has a map with classes of the training pictures")
    layouts = [table[view.map] for view in views]  # (size, size) each
    maps = [_reduced(layout) for layout in layouts]
    drawn, real, elsewhere = (Agreement(known) for _ in range(3))
    shown: list[Triple] = []
    requests = [bench.request(view, "map", k, layout=Image.fromarray(layouts[k])) for k, view in enumerate(views)]
    for numbers, pixels in bench.drawn(views, requests, "map"):
        originals = torch.stack([views[k].pixels for k in numbers])
        answers, right = (classify(_features(some, bench)) for some in (pixels, originals))
        for place, k in enumerate(numbers):
            drawn.add(answers[place], maps[k])
            elsewhere.add(answers[place], maps[(k + 1) % len(maps)])
            real.add(right[place], maps[k])
        for k, image in zip(numbers, to_images(pixels[: max(0, SHOWN - len(shown))]), strict=False):
            shown.append(Triple(paint(Image.fromarray(layouts[k]), part.classes), image, views[k].image))
    d, r, e = drawn.counts(), real.counts(), elsewhere.counts()
    report = MapReport(
        map_agreement=bootstrap(len(views), lambda chosen: class_accuracy(d[chosen])),
        map_agreement_real=bootstrap(len(views), lambda chosen: class_accuracy(r[chosen])),
        map_agreement_ratio=bootstrap(
            len(views), lambda chosen: class_accuracy(d[chosen]) / max(class_accuracy(r[chosen]), LEAST_ACCURACY)
        ),
        map_agreement_elsewhere=bootstrap(len(views), lambda chosen: class_accuracy(e[chosen])),
    )
    return Measured(report, shown)


class Agreement:
    """Counts, picture by picture, how many pixels of each of the classes `known` were answered rightly."""

    def __init__(self, known: Sequence[int]) -> None:
        self.known = known
        self._counts: list[tuple[list[int], list[int]]] = []

    def add(self, answer: Tensor, asked: Tensor) -> None:
        """One picture: the classes that were answered and asked for, (H, W) each."""
        of_class = [asked == index for index in self.known]
        hits = [int((where & (answer == index)).sum()) for where, index in zip(of_class, self.known, strict=True)]
        self._counts.append((hits, [int(where.sum()) for where in of_class]))

    def counts(self) -> np.ndarray:
        """Right answers and all pixels, (n, 2, K) for n pictures."""
        return np.array(self._counts)


def class_accuracy(counts: np.ndarray) -> float:
    """The share of right answers of each class over all pictures (n, 2, K), averaged over the classes that are there."""
    hits, pixels = counts.sum(axis=0)
    there = pixels > 0
    return float((hits[there] / pixels[there]).mean())


def renumbering(names: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    """A table (256,) uint8 from class indices of a data set to those of a model that knows these classes; 255 for others."""
    numbers = {name: index for index, name in enumerate(classes)}
    table = np.full(256, UNSAID, dtype=np.uint8)
    table[: len(names)] = [numbers.get(name, UNSAID) for name in names]
    return table


def _mapped(bench: Bench, split: str, table: np.ndarray, classes: Iterable[int]) -> Iterator[View]:
    """Pictures of a split whose maps have any of these classes of the model."""
    wanted = list(classes)
    return bench.views(
        bench.order(split, "map"), lambda view: view.map is not None and bool(np.isin(table[view.map], wanted).any())
    )


def _examples(views: Iterable[View], table: np.ndarray, bench: Bench) -> Iterator[tuple[Tensor, Tensor]]:
    """Features (B, D, H, W) and classes (B, H, W) of pictures, in batches."""
    source, done = iter(views), 0
    while some := list(islice(source, bench.batch)):
        done += len(some)
        yield _features(torch.stack([view.pixels for view in some]), bench), torch.stack([_reduced(table[v.map]) for v in some])
        bench.tell(done, FITTED, "real maps")


def _features(pixels: Tensor, bench: Bench) -> Tensor:
    """Local features (B, D, H, W) of pictures, in the size that pixels are classified in."""
    side = min(LOOKED_AT, bench.size)
    if bench.size != side:
        pixels = F.interpolate(pixels, (side, side), mode="bilinear", antialias=True)
    return local_features(pixels, bench.extractor)


def _reduced(layout: np.ndarray) -> Tensor:
    """Classes (H, W) of a map (size, size), in the size that pixels are classified in."""
    side = min(LOOKED_AT, layout.shape[0])
    return torch.from_numpy(np.array(Image.fromarray(layout).resize((side, side), Image.Resampling.NEAREST))).long()
