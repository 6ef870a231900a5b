"""A sheet for people: what was given, what was drawn of it, and the original."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from PIL import Image

from undiffuse.core.pictures import WHITE, grid_image
from undiffuse.evaluation.contexts.bench import Triple


def context_sheet(shown: Mapping[str, Sequence[Triple]]) -> Image.Image:
    """Three rows for every context, in order: what was given, what was drawn, the originals; one column a picture.

    Raises:
        DataError: when there are no pictures.
    """
    columns = max((len(triples) for triples in shown.values()), default=0)
    places: list[Image.Image] = []
    for triples in shown.values():
        blank = Image.new("RGB", triples[0].drawn.size, WHITE)
        for row in zip(*triples, strict=True):
            places += [*row, *[blank] * (columns - len(row))]
    return grid_image(places, columns)
