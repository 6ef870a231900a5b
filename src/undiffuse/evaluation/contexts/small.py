"""Small pictures: is what the model makes of them nearer to the original than an enlargement by bicubic interpolation?"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

import torch
from PIL import Image

from undiffuse.conditioners.small import SmallConditioner, shrink
from undiffuse.core.pictures import to_images, to_pixels
from undiffuse.evaluation.contexts.bench import SHOWN, Bench, LeftOut, Measured, Triple, feature_distances
from undiffuse.evaluation.reconstruction import psnr
from undiffuse.evaluation.report import Figure, Report, mean, proportion


@dataclass(frozen=True)
class SmallReport(Report):
    """How near enlarged pictures are to the originals, in decibels of RGB and in cosine distance of features.

    The model gets the caption too, if it reads captions; the small picture has 8 bits and no noise. `small_psnr`,
    `small_distance` are the model's means, `bicubic_psnr`, `bicubic_distance` those of bicubic interpolation.
    `small_better_psnr`, `small_better_distance`, `small_better_both`: how often the model is nearer by one, by the
    other, by both; ties count against it. Interpolation is near the mean of all originals that are possible, which
    PSNR rewards: a model that draws one of them is expected to win by features and not by PSNR.
    """

    small_better_psnr: Figure
    small_better_distance: Figure
    small_better_both: Figure
    small_psnr: Figure
    bicubic_psnr: Figure
    small_distance: Figure
    bicubic_distance: Figure


def measure_small(part: SmallConditioner, bench: Bench) -> Measured | LeftOut:
    """Have `bench.count` pictures shrunk and enlarged again."""
    views = list(islice(bench.views(bench.order("val", "small")), bench.count))
    if not views:
        return LeftOut("no validation picture can be read")
    small = [to_images(shrink(view.pixels, part.scale)[None])[0] for view in views]
    requests = [bench.request(view, "small", number, small=small[number]) for number, view in enumerate(views)]
    ratios: list[tuple[float, float]] = []
    distances: list[tuple[float, float]] = []
    shown: list[Triple] = []
    for numbers, drawn in bench.drawn(views, requests, "small"):
        originals = torch.stack([views[number].pixels for number in numbers])
        plain = torch.stack([to_pixels(enlarged(small[number], bench.size)) for number in numbers])
        ratios += zip(psnr(originals, drawn).tolist(), psnr(originals, plain).tolist(), strict=True)
        near, far = (feature_distances(bench.extractor, pixels, originals).tolist() for pixels in (drawn, plain))
        distances += zip(near, far, strict=True)
        for number, image in zip(numbers, to_images(drawn[: max(0, SHOWN - len(shown))]), strict=False):
            shown.append(Triple(enlarged(small[number], bench.size, Image.Resampling.NEAREST), image, views[number].image))
    clearer = [model > plain for model, plain in ratios]
    nearer = [model < plain for model, plain in distances]
    report = SmallReport(
        small_better_psnr=proportion(clearer),
        small_better_distance=proportion(nearer),
        small_better_both=proportion([a and b for a, b in zip(clearer, nearer, strict=True)]),
        small_psnr=mean([model for model, _ in ratios]),
        bicubic_psnr=mean([plain for _, plain in ratios]),
        small_distance=mean([model for model, _ in distances]),
        bicubic_distance=mean([plain for _, plain in distances]),
    )
    return Measured(report, shown)


def enlarged(small: Image.Image, size: int, how: Image.Resampling = Image.Resampling.BICUBIC) -> Image.Image:
    """A small picture as a square of this side."""
    return small.resize((size, size), how)
