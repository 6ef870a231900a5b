"""`verify`: draw a picture again from what it tells, and say whether it is the same, and if not, why."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from undiffuse.core.pictures import to_pixels
from undiffuse.explain.causes import Cause, causes
from undiffuse.explain.compare import decibels_of
from undiffuse.generation.again import copies, furthest
from undiffuse.generation.generator import Generator
from undiffuse.generation.output import Origin, read_told, told_of
from undiffuse.generation.request import Request

ANOTHER_PROGRAM = "it was drawn by another program, whose arithmetic is not ours"
UNRECORDED = (
    "nothing that it tells differs: its pixels were changed after it was drawn, or this machine "
    "computes otherwise (another kind of processor, another number of threads)"
)


@dataclass(frozen=True)
class Verdict:
    """What came of drawing a picture again.

    `furthest` is by how many of 255 levels any pixel differs, `psnr` in dB (None where nothing differs); both are None where
    the sizes differ. `causes` are all that differs, what matters most first; empty where the picture tells none.
    """

    image: Image.Image
    furthest: int | None
    psnr: float | None
    causes: list[Cause]
    why: str = ""

    @property
    def same(self) -> bool:
        """Whether every pixel is the same."""
        return self.furthest == 0


def verify(path: str | Path, request: Request, draw: Generator, before: Origin | None) -> Verdict:
    """Draw the picture in this file again and compare.

    Args:
        path: the PNG.
        request: what it tells, with the pictures that it was drawn from.
        draw: best on the device, and in the precision and batch, of `before`.
        before: what drew it.

    Raises:
        SpecError, DataError: when the model at hand cannot draw it.
    """
    settled = draw.settle(request)
    place = (before.batch, before.position) if before is not None and before.batch <= draw.batch else (1, 0)
    origin = draw.origin_of(settled, *place)
    image = [result.images[0] for result in draw.many(copies(settled, origin))][origin.position]
    by, told = furthest(image, path), read_told(path)
    found = [] if told is None else causes(told, told_of(settled, origin))
    if by == 0:
        return Verdict(image, by, None, found)
    why = ANOTHER_PROGRAM if told is None else str(found[0]) if found else UNRECORDED
    with Image.open(path) as file:
        decibels = None if by is None else decibels_of(to_pixels(file), to_pixels(image))
    return Verdict(image, by, decibels, found, why)
