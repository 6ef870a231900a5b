"""From a row of a data set to a training example: cropped or composed, with a caption that says what was done."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

import numpy as np
from PIL import Image, ImageOps
from pydantic import Field, field_validator

from undiffuse.core.errors import DataError, explain
from undiffuse.core.pictures import to_pixels
from undiffuse.core.spec import Spec
from undiffuse.data.annotations import is_box
from undiffuse.data.backgrounds import COLOURS, GRADIENT, Background, draw_background
from undiffuse.data.captions import CaptionSpec, name_pair, name_thing, name_twins, write_caption
from undiffuse.data.crop import Cut
from undiffuse.data.dataset import Pictures
from undiffuse.data.records import BESIDE, STACKED, Example, Row

DEFAULT_BACKGROUNDS = {"white": 0.4, GRADIENT: 0.1} | {name: 0.5 / 11 for name in COLOURS if name != "white"}
PARTNER_TRIES = 64
ALONE = ("one", "whole")  # layouts of a picture by itself
PAIR_SCALE = (0.4, 0.48)
STACKED_SHARE = 0.3

# Mirrored, these show the wrong thing: letters, dials, and whatever the caption says a side of.
UNFLIPPABLE_GROUPS = frozenset({"symbols"})
UNFLIPPABLE_SUBGROUPS = frozenset("time book-paper money mail computer music award-medal event game place-building".split())
UNFLIPPABLE_WORDS = re.compile(
    r"\b(left|right|leftwards|rightwards|facing|letter|sign|arrow|button|clock|hundred|japan|globe|map)\b"
)


class RenderSpec(Spec):
    """How pictures become training examples.

    Pictures without transparency are cropped (`crop`) and perhaps mirrored (`flip`). Cut-outs are put on a
    background: `plain` of them whole and centred, `pair` of them beside or above another of the same style
    (a share `twins` of these beside themselves), the rest at a size in `scale` (of the picture's side), moved by
    up to `shift` (of the side) without leaving the picture. `backgrounds` weighs the names in `COLOURS` and "gradient".
    """

    size: int = Field(default=128, ge=16, le=2048)
    crop: Literal["center", "random", "none"] = "center"
    flip: float = Field(default=0.0, ge=0, le=1)
    backgrounds: dict[str, float] = Field(default=DEFAULT_BACKGROUNDS, min_length=1)
    plain: float = Field(default=0.3, ge=0, le=1)
    pair: float = Field(default=0.08, ge=0, le=1)
    twins: float = Field(default=0.0, ge=0, le=1)
    scale: tuple[float, float] = (0.75, 1.0)
    shift: float = Field(default=0.06, ge=0, le=0.5)
    captions: CaptionSpec = CaptionSpec()

    @field_validator("backgrounds")
    @classmethod
    def _known_colours(cls, weights: dict[str, float]) -> dict[str, float]:
        unknown = [name for name in weights if name not in COLOURS and name != GRADIENT]
        if unknown:
            raise ValueError(f"unknown colour {unknown[0]!r}; there are {', '.join(COLOURS)} and {GRADIENT}")
        if min(weights.values()) < 0 or sum(weights.values()) == 0:
            raise ValueError("weights must not be negative, and not all zero")
        return weights

    @field_validator("scale")
    @classmethod
    def _ordered(cls, scale: tuple[float, float]) -> tuple[float, float]:
        if not 0.1 <= scale[0] <= scale[1] <= 1:
            raise ValueError("two numbers from 0.1 to 1 are needed, the smaller one first")
        return scale


def render(pictures: Pictures, index: int, spec: RenderSpec, rng: np.random.Generator) -> Example:
    """One training example from picture `index`; the same numbers from `rng` give the same example.

    A picture that cannot be read is passed over for the next one that can. A whole picture that has a semantic map
    brings it as `fields["map"]`, uint8 (H, W) with 255 where nothing is said, and its boxes as `fields["boxes"]`,
    both cropped and mirrored with it; cut-outs bring neither.

    Raises:
        DataError: no picture of the set can be read.
    """
    index, picture = read_from(pictures, index)
    row = pictures.rows[index]
    mirrored = bool(rng.random() < spec.flip and may_flip(row))
    if not is_cutout(picture):
        return _whole(pictures, index, picture, Cut(spec.size, _centre(spec.crop, rng), mirrored))
    if mirrored:
        picture = ImageOps.mirror(picture)
    if _concept(row) and rng.random() < spec.pair:
        twins = spec.twins and rng.random() < spec.twins
        partner = (index, picture) if twins else _partner(pictures, row, rng)
        if partner is not None:
            return _compose_pair(pictures, (index, picture), partner, spec, rng)
    return _compose_one(picture, row, spec, rng)


def read_from(pictures: Pictures, index: int) -> tuple[int, Image.Image]:
    """The first picture from `index` on that can be read, with its index.

    Raises:
        DataError: none can.
    """
    count = len(pictures.rows)
    reason: DataError | None = None
    for candidate in range(index, index + count):
        try:
            return candidate % count, pictures.read(candidate % count)
        except DataError as error:
            reason = reason or error
    raise DataError(explain(f"none of the {count} pictures can be read (the first: {reason})", "at least one must be readable"))


def may_flip(row: Row) -> bool:
    """Whether the mirror image still shows what the caption says."""
    if row.fields.get("group") in UNFLIPPABLE_GROUPS or row.fields.get("subgroup") in UNFLIPPABLE_SUBGROUPS:
        return False
    return not UNFLIPPABLE_WORDS.search(row.caption.lower())


def is_cutout(picture: Image.Image) -> bool:
    """Whether any of it is transparent."""
    return picture.mode == "RGBA" and picture.getchannel("A").getextrema() != (255, 255)


def _centre(crop: str, rng: np.random.Generator) -> tuple[float, float] | None:
    """What a square is cut about: the centre, or any place; None for the whole picture."""
    if crop == "none":
        return None
    x, y = rng.random(2) if crop == "random" else (0.5, 0.5)
    return float(x), float(y)


def _whole(pictures: Pictures, index: int, picture: Image.Image, cut: Cut) -> Example:
    row = pictures.rows[index]
    fields = {**row.fields, "layout": "whole"}
    if "boxes" in fields:
        fields["boxes"] = cut.boxes(filter(is_box, fields["boxes"] or ()), picture.size)
    try:
        indices = pictures.read_map(index)
    except DataError:
        indices = None  # the picture is still worth seeing; stores remember the problem
    levels = cut.map(indices, picture.size) if indices is not None else None
    if levels is not None:
        fields["map"] = levels
    return Example(to_pixels(cut.picture(picture)), row.caption, row.label, fields)


def _compose_one(picture: Image.Image, row: Row, spec: RenderSpec, rng: np.random.Generator) -> Example:
    background = draw_background(spec.backgrounds, spec.size, rng)
    plain = rng.random() < spec.plain
    scale = 1.0 if plain else float(rng.uniform(*spec.scale))
    reach = 0.0 if plain else min(spec.shift, (1 - scale) / 2)
    x, y = 0.5 + rng.uniform(-reach, reach, size=2)
    _paste(background.canvas, picture, (float(x), float(y)), scale)
    concept = _concept(row)
    thing = name_thing(concept, _keywords(row), spec.captions, rng) if concept else row.caption
    return _example(background, row, thing, {"layout": "one"}, spec, rng)


def _compose_pair(
    pictures: Pictures, one: tuple[int, Image.Image], other: tuple[int, Image.Image], spec: RenderSpec, rng: np.random.Generator
) -> Example:
    """Two cut-outs, each with its place in the set; the same twice is two of one thing, always side by side."""
    background = draw_background(spec.backgrounds, spec.size, rng)
    (index, picture), (other_index, other_picture) = one, other
    row, twins = pictures.rows[index], index == other_index
    second = _concept(pictures.rows[other_index])
    stacked = not twins and rng.random() < STACKED_SHARE
    scale = float(rng.uniform(*PAIR_SCALE))
    for place, part in ((0.25, picture), (0.75, other_picture)):
        trimmed = part.crop(part.getchannel("A").getbbox())
        _paste(background.canvas, trimmed, (0.5, place) if stacked else (place, 0.5), scale)
    thing = name_twins(second, rng) if twins else name_pair(_concept(row), second, stacked, rng)
    layout = {"layout": STACKED if stacked else BESIDE, "second": second, "partner": other_index}
    return _example(background, row, thing, layout, spec, rng)


def _example(
    background: Background, row: Row, thing: str, layout: Mapping[str, str | int], spec: RenderSpec, rng: np.random.Generator
) -> Example:
    """What was composed, with a caption; a picture of which nothing is said stays without one."""
    unsaid = background.name == "white" and rng.random() < spec.captions.unsaid_white
    caption = write_caption(thing, _style(row), "" if unsaid else background.phrase, spec.captions, rng) if thing else ""
    fields = {name: value for name, value in row.fields.items() if name != "boxes"}
    fields |= {**layout, "background": background.name}
    return Example(to_pixels(background.canvas), caption, row.label, fields)


def _partner(pictures: Pictures, row: Row, rng: np.random.Generator) -> tuple[int, Image.Image] | None:
    """A cut-out of another concept in the same style, with its place in the set, if a few tries find one."""
    for index in rng.integers(len(pictures.rows), size=PARTNER_TRIES).tolist():
        other = pictures.rows[index]
        if not _concept(other) or _concept(other) == _concept(row) or _style(other) != _style(row):
            continue
        try:
            picture = pictures.read(index)
        except DataError:
            continue
        if is_cutout(picture):
            return index, picture
    return None


def _paste(canvas: Image.Image, art: Image.Image, centre: tuple[float, float], scale: float) -> None:
    """Draw a cut-out with its longer side at `scale` of the canvas, centred at `centre` (fractions of the side)."""
    size = canvas.width
    ratio = scale * size / max(art.size)
    width, height = (max(1, round(side * ratio)) for side in art.size)
    if art.size != (width, height):
        art = art.resize((width, height), Image.Resampling.LANCZOS)
    corner = (round(centre[0] * size - width / 2), round(centre[1] * size - height / 2))
    canvas.paste(art, corner, art)


def _concept(row: Row) -> str:
    return str(row.fields.get("concept", ""))


def _keywords(row: Row) -> list[str]:
    words = row.fields.get("keywords")
    return [word for word in words if isinstance(word, str)] if isinstance(words, list) else []


def _style(row: Row) -> str:
    return str(row.fields.get("style", ""))
