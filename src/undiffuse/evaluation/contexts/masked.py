"""Holes: does the model fill them with what could have been there, nearer to it than a smooth continuation of the edges is?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from undiffuse.conditioners.masked import MaskConditioner
from undiffuse.core.errors import DependencyError, explain
from undiffuse.core.pictures import to_images, to_pixels
from undiffuse.core.random import numpy_stream
from undiffuse.data.masks import MaskShape, draw_mask
from undiffuse.evaluation.contexts.bench import SHOWN, Bench, LeftOut, Measured, Triple, feature_distances, pieces
from undiffuse.evaluation.report import Figure, Report, mean, proportion

MASKS: dict[MaskShape, float] = {"box": 1.0, "brush": 1.0}
HIDDEN = (0.1, 0.5)  # least and most of a picture that is hidden
TRIES = 100
MARGIN = 0.1  # of the picture's side, around the hole
RADIUS = 3.0  # pixels that Telea's method looks around
GREY = (128, 128, 128)

PlainFill = Callable[[Image.Image, Image.Image], Image.Image]
"""A picture and its mask, white where it is hidden, to the filled picture."""


@dataclass(frozen=True)
class MaskReport(Report):
    """How near filled holes are to what was there.

    A tenth to a half of each picture is hidden, by a rectangle or by strokes; the model gets the caption too, if it
    reads captions. Compared are pooled features of a window around the hole, by cosine distance: several fillings
    are right, and pooled features ask for the same things and textures, not for the same place, as maps would.

    `mask_better_than_telea`: how often the model's filling is nearer to the original than that of Telea 2004, "An
    image inpainting technique based on the fast marching method", which continues the edges; ties count against the
    model. `mask_distance`, `telea_distance`: the mean distances, of which the former holds the autoencoder's loss.
    """

    mask_better_than_telea: Figure
    mask_distance: Figure
    telea_distance: Figure


def measure_masks(part: MaskConditioner, bench: Bench) -> Measured | LeftOut:
    """Have the holes of `bench.count` pictures filled.

    Raises:
        DependencyError: when OpenCV is not installed.
    """
    plain = telea_fill()
    views = list(islice(bench.views(bench.order("val", "mask")), bench.count))
    if not views:
        return LeftOut("no validation picture can be read")
    masks = [hole((bench.size, bench.size), bench.seed, number) for number in range(len(views))]
    requests = [
        bench.request(view, "mask", number, image=view.image, mask=mask, fill="learned")
        for number, (view, mask) in enumerate(zip(views, masks, strict=True))
    ]
    model: list[float] = []
    smooth: list[float] = []
    shown: list[Triple] = []
    for numbers, drawn in bench.drawn(views, requests, "mask"):
        some = [views[number] for number in numbers]
        windows = [around(masks[number]) for number in numbers]

        def cut(pixels: list[Tensor] | Tensor, windows: list[tuple[float, ...]] = windows) -> Tensor:
            """The window of each picture, (B, 3, size, size)."""
            pairs = zip(pixels, windows, strict=True)
            return torch.cat([pieces(picture, [window], bench.size) for picture, window in pairs])

        originals = cut([view.pixels for view in some])
        filled = [to_pixels(plain(view.image, masks[number])) for view, number in zip(some, numbers, strict=True)]
        model += feature_distances(bench.extractor, cut(drawn), originals).tolist()
        smooth += feature_distances(bench.extractor, cut(filled), originals).tolist()
        images = to_images(drawn[: max(0, SHOWN - len(shown))])
        shown += [Triple(hidden(some[k].image, masks[numbers[k]]), image, some[k].image) for k, image in enumerate(images)]
    better = [near < far for near, far in zip(model, smooth, strict=True)]
    return Measured(MaskReport(proportion(better), mean(model), mean(smooth)), shown)


def hole(size: tuple[int, int], seed: int, number: int) -> Image.Image:
    """The mask (mode L) of picture `number` of this size (height, width): 255 over a tenth to a half of it, else 0."""
    rng = numpy_stream("evaluate", "hole", seed, number)
    drawn = (draw_mask(size, MASKS, rng) for _ in range(TRIES))
    mask = next((mask for mask in drawn if HIDDEN[0] <= float(mask.mean()) <= HIDDEN[1]), None)
    if mask is None:  # on pictures of a few pixels
        mask = torch.zeros(1, *size)
        mask[:, size[0] // 4 : -(-3 * size[0] // 4), size[1] // 4 : -(-3 * size[1] // 4)] = 1
    return Image.fromarray((mask[0].numpy() * 255).astype(np.uint8))


def around(mask: Image.Image) -> tuple[float, ...]:
    """The window around the hole of a mask: left, top, right, bottom as fractions, with a margin."""
    box = mask.getbbox() or (0, 0, *mask.size)
    sides = [side / mask.size[index % 2] for index, side in enumerate(box)]
    return (*(max(0.0, side - MARGIN) for side in sides[:2]), *(min(1.0, side + MARGIN) for side in sides[2:]))


def hidden(picture: Image.Image, mask: Image.Image) -> Image.Image:
    """The picture with a grey hole."""
    return Image.composite(Image.new("RGB", picture.size, GREY), picture, mask)


def telea_fill() -> PlainFill:
    """Telea's filling, as OpenCV has it.

    Raises:
        DependencyError: when OpenCV is not installed.
    """
    try:
        import cv2
    except ImportError:
        allowed = "holes that a model fills are compared with what it fills in"
        raise DependencyError(explain("OpenCV is not installed", allowed, 'pip install "undiffuse[eval]"')) from None

    def fill(picture: Image.Image, mask: Image.Image) -> Image.Image:
        return Image.fromarray(cv2.inpaint(np.array(picture), np.array(mask), RADIUS, cv2.INPAINT_TELEA))

    return fill
