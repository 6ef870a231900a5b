"""X/Y grids: the values of two axes, the request of every cell, and the labelled sheet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from undiffuse.core.errors import UsageError, explain
from undiffuse.generation.request import Request
from undiffuse.studio.wearing import named, worn

NOTHING, REPLACE, LORA, STRENGTH = "nothing", "words of the prompt", "LoRA", "strength"
MOST = 64  # cells
GAP, SMALL_PRINT = 6, 13
INK, PAPER = (40, 40, 46), (250, 250, 252)

AXES: dict[str, tuple[str, Callable[[str], Any]]] = {
    "seed": ("seed", int),
    "steps": ("steps", int),
    "guidance": ("guidance", float),
    "solver": ("solver", str),
    "class": ("label", str),
    STRENGTH: ("strength", float),
    "clip skip": ("clip_skip", int),
}
"""What an axis may change: the field of the request, and how a value is read."""
CHOICES = [NOTHING, REPLACE, LORA, *AXES]


def values_on(axis: str, text: str) -> list[str]:
    """The values in a text, between commas: "1, 2, 3"; whole numbers also as "1-4".

    Raises:
        UsageError: when there are none for an axis that needs some.
    """
    if axis == NOTHING:
        return [""]
    found = [value.strip() for value in text.split(",") if value.strip()]
    if axis in AXES and AXES[axis][1] is int:
        found = [one for value in found for one in _range(value)]
    if not found:
        raise UsageError(explain(f"no values for {axis}", "they stand between commas", "for instance 1, 2, 3"))
    return found


def changed(request: Request, axis: str, value: str, first: str) -> Request:
    """The request with this value of an axis.

    Of words, `first` stands in the prompt and `value` takes its place; LoRAs are put into it as "style:0.8".

    Raises:
        UsageError: when a value is none for this axis, or the word is not in the prompt.
        SpecError: when the request cannot have it.
    """
    if axis == NOTHING:
        return request
    if axis == REPLACE:
        if first not in request.prompt:
            raise UsageError(explain(f"{first!r} is not in the prompt", "the first value is what the others replace"))
        return request.replace(prompt=request.prompt.replace(first, value))
    if axis == LORA:
        return request.replace(prompt=worn(request.prompt, *named(value)))
    name, read = AXES[axis]
    try:
        told = read(value)
    except ValueError:
        raise UsageError(explain(f"{value!r} for {axis}", "a number is needed", "for instance 1, 2, 3")) from None
    return request.replace(**{name: told})


def cells(request: Request, across: tuple[str, Sequence[str]], down: tuple[str, Sequence[str]]) -> list[Request]:
    """The requests of a grid, row by row, each for one picture of the same seed unless an axis says another.

    Raises:
        UsageError, SpecError: when there are too many cells, or a value does not go.
    """
    (x, columns), (y, rows) = across, down
    if len(columns) * len(rows) > MOST:
        given = f"{len(columns)} x {len(rows)} pictures"
        raise UsageError(explain(given, f"up to {MOST} make a sheet that can be read", "leave some values out"))
    one = request.replace(count=1)
    return [changed(changed(one, y, row, rows[0]), x, column, columns[0]) for row in rows for column in columns]


def sheet(
    images: Sequence[Image.Image | None], across: tuple[str, Sequence[str]], down: tuple[str, Sequence[str]]
) -> Image.Image:
    """The pictures of a grid with the values of both axes beside them; a cell without one stays empty.

    Raises:
        UsageError: when there is no picture at all.
    """
    drawn = [image for image in images if image is not None]
    if not drawn:
        raise UsageError(explain("a sheet of no pictures", "at least one is needed"))
    (x, columns), (y, rows) = across, down
    font = ImageFont.load_default(SMALL_PRINT)
    width, height = max(image.width for image in drawn), max(image.height for image in drawn)
    left = 0 if y == NOTHING else GAP + max(int(font.getlength(f"{y} {row}")) for row in rows)
    top = 0 if x == NOTHING else SMALL_PRINT + 2 * GAP
    whole = Image.new("RGB", (left + len(columns) * (width + GAP) + GAP, top + len(rows) * (height + GAP) + GAP), PAPER)
    pen = ImageDraw.Draw(whole)
    for k, image in enumerate(images):
        if image is not None:
            whole.paste(image, (left + GAP + k % len(columns) * (width + GAP), top + GAP + k // len(columns) * (height + GAP)))
    for k, column in enumerate(columns if x != NOTHING else ()):
        pen.text((left + GAP + k * (width + GAP) + width // 2, GAP), _fit(f"{x} {column}", width, font), INK, font, anchor="ma")
    for k, row in enumerate(rows if y != NOTHING else ()):
        pen.text((GAP // 2, top + GAP + k * (height + GAP) + height // 2), f"{y} {row}", INK, font, anchor="lm")
    return whole


def _range(value: str) -> list[str]:
    first, dash, last = value.partition("-")
    if dash and first.strip().isdecimal() and last.strip().isdecimal() and int(first) <= int(last) < int(first) + MOST:
        return [str(number) for number in range(int(first), int(last) + 1)]
    return [value]


def _fit(text: str, width: int, font: Any) -> str:
    while font.getlength(text) > width and len(text) > 4:
        text = text[:-2].rstrip("…") + "…"
    return text
