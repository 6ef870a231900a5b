"""Colours of semantic classes, so that a map can be painted by hand and read again.

A class with a name out of nature has its natural colour; the others get colours that stay apart for people with
red-green blindness too. All arithmetic is on whole numbers: the same classes have the same colours everywhere.
Black is no class: nothing is said there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import product

import numpy as np
from PIL import Image

from undiffuse.core.errors import DataError, SpecError, explain
from undiffuse.data.annotations import UNSAID

Colour = tuple[int, int, int]

BLACK: Colour = (0, 0, 0)
APART = 20  # least distance between two colours, of 441, however they are seen
NEAR = 40  # farthest distance at which a colour is still taken for a class
SPECK = 0.005  # of a painting may be of one colour that is far from all: the soft edge of a brush
EDGES = 0.1  # of a painting may be of such colours together

NATURAL: dict[str, Colour] = {
    "sky": (135, 190, 235),
    "cloud": (225, 230, 235),
    "snow": (245, 250, 255),
    "water": (50, 110, 190),
    "sea": (25, 75, 145),
    "river": (95, 150, 200),
    "lake": (65, 135, 165),
    "grass": (120, 175, 60),
    "tree": (50, 90, 50),
    "forest": (0, 35, 45),
    "bush": (80, 155, 45),
    "flower": (225, 80, 150),
    "sand": (230, 205, 145),
    "ground": (140, 105, 65),
    "mountain": (110, 105, 130),
    "rock": (150, 145, 135),
    "road": (85, 85, 95),
    "building": (185, 110, 90),
    "roof": (170, 45, 30),
    "wall": (205, 185, 165),
    "sun": (255, 215, 50),
    "fire": (240, 95, 20),
    "person": (240, 170, 140),
}
FIRST: tuple[Colour, ...] = (  # Okabe & Ito 2008, "Color universal design"
    (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167),
)  # fmt: skip
VIEWS = np.array([  # thousandths: full sight, and without red or green cones (Machado et al. 2009, table 1, severity 1)
    [[1000, 0, 0], [0, 1000, 0], [0, 0, 1000]],
    [[152, 1053, -205], [115, 786, 99], [-4, -48, 1052]],
    [[367, 861, -228], [280, 673, 47], [-12, 43, 969]],
])  # fmt: skip


@cache
def colours(classes: tuple[str, ...]) -> tuple[Colour, ...]:
    """A colour for every class, in their order: its natural one, else the next that is far enough from all before it.

    Raises:
        SpecError: when there are so many classes that no colour is left.
    """
    taken: dict[int, Colour] = {}
    for index, name in enumerate(classes):
        natural = _natural(name)
        if natural is not None and _distance(natural, [BLACK, *taken.values()]) >= APART**2:
            taken[index] = natural
    for index, name in enumerate(classes):
        if index not in taken:
            taken[index] = _next(name, [BLACK, *taken.values()])
    return tuple(taken[index] for index in range(len(classes)))


def read_painting(painting: Image.Image, classes: Sequence[str]) -> Image.Image:
    """Class indices (mode L) of an RGB painting by the nearest colour, 255 where it is black.

    Few pixels of other colours, the soft edges of a brush, go to the nearest class.

    Raises:
        DataError: when the painting holds a colour that is no class's.
        SpecError: when there are more classes than colours.
    """
    pixels = np.asarray(painting.convert("RGB")).reshape(-1, 3).astype(np.int64)
    codes, places, counts = np.unique(pixels @ (1 << 16, 1 << 8, 1), return_inverse=True, return_counts=True)
    found = np.stack([codes >> 16, codes >> 8 & 255, codes & 255], axis=1)  # (N, 3), each colour once
    known = np.array([*colours(tuple(classes)), BLACK])
    squares = np.stack([((found - colour) ** 2).sum(axis=1) for colour in known], axis=1)  # (N, K + 1)
    far = squares.min(axis=1) > NEAR**2
    strange = np.where(far, counts, 0)
    if strange.max() > SPECK * len(pixels) or strange.sum() > EDGES * len(pixels):
        most = int(strange.argmax())
        name = _named(int(squares[most].argmin()), classes)
        given = f"the colour {hexadecimal(found[most])} in the painting is no class's, the nearest is {name}"
        raise DataError(explain(given, "the colours of the palette are needed", "'undiffuse paint --palette' lists them"))
    indices = np.append(np.arange(len(classes)), UNSAID)[squares.argmin(axis=1)]
    return Image.fromarray(indices[places].astype(np.uint8).reshape(painting.height, painting.width))


def paint(indices: Image.Image, classes: Sequence[str]) -> Image.Image:
    """Class indices (mode L) in the colours of the palette; black where they name no class."""
    table = np.zeros((256, 3), dtype=np.uint8)
    table[: len(classes)] = colours(tuple(classes))
    return Image.fromarray(table[np.asarray(indices)])


def hexadecimal(colour: Iterable[int]) -> str:
    """A colour as paint programs write it: #87beeb."""
    return "#" + "".join(f"{int(value):02x}" for value in colour)


def _named(index: int, classes: Sequence[str]) -> str:
    colour = (*colours(tuple(classes)), BLACK)[index]
    return f"{hexadecimal(colour)} ({classes[index]})" if index < len(classes) else "black (nothing is said)"


def _natural(name: str) -> Colour | None:
    """The natural colour of the first word of a name that has one; "trees" and "sky-other" are trees and sky."""
    words = re.findall(r"[a-z]+", name.lower())
    return next((NATURAL[form] for word in words for form in (word, word.removesuffix("s")) if form in NATURAL), None)


def _next(name: str, taken: Sequence[Colour]) -> Colour:
    """The first of a few well-known colours that is far from all taken ones, else the one of a lattice that is farthest."""
    well_known = next((colour for colour in FIRST if _distance(colour, taken) >= APART**2), None)
    if well_known is not None:
        return well_known
    lattice = [(red, green, blue) for red, green, blue in product(range(0, 256, 51), repeat=3)]
    distances = _distances(lattice, taken)
    if not distances.any():
        raise SpecError(explain(f"no colour is left for class {name!r}", "a map of class indices is needed", "save it in grey"))
    return lattice[int(distances.argmax())]


def _distance(colour: Colour, taken: Sequence[Colour]) -> int:
    return int(_distances([colour], taken)[0])


def _distances(colours: Sequence[Colour], taken: Sequence[Colour]) -> np.ndarray:
    """Squared distances (M,) to the nearest colour that is taken, in the eyes of those who tell the two apart worst."""
    differences = np.array(taken) - np.array(colours)[:, None]  # (M, N, 3)
    seen = differences @ VIEWS.transpose(0, 2, 1)[:, None] // 1000  # (views, M, N, 3)
    return (seen**2).sum(axis=3).min(axis=(0, 2))
