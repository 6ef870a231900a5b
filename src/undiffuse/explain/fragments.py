"""Pieces of HTML: pictures inside the page, figures, charts, numbers in words."""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Iterable, Sequence

from PIL import Image

CHART = (640, 180)  # width and height of a chart in its own units
MARGIN = (64, 12, 16, 32)  # left, right, top, bottom
LEAST, MOST = 0.001, 1e6  # numbers between these are written out


def text(value: object) -> str:
    """Any text, safe inside HTML and inside the quotes of an attribute."""
    return html.escape(str(value), quote=True)


def number(value: float | None) -> str:
    """A number of three digits, grouped by thousands; an infinite one as its sign."""
    if value is None:
        return "-"
    if math.isinf(value):
        return "&infin;"
    if value == 0:
        return "0"
    if abs(value) >= MOST or abs(value) < LEAST:
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{mantissa} &middot; 10<sup>{int(exponent)}</sup>"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def seconds(value: float) -> str:
    """A time in the unit that suits it."""
    if value < 1:
        return f"{number(value * 1000)} ms"
    return f"{number(value)} s" if value < 120 else f"{number(value / 60)} minutes"


def sides(width: int, height: int) -> str:
    """A size in words."""
    return f"{width} &times; {height}"


def photo(image: Image.Image, side: int, quality: int = 86) -> str:
    """A picture as the text of a link: WebP, no longer than `side` on its longer side."""
    image = image.convert("RGB")
    if max(image.size) > side:
        image = image.copy()
        image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return _linked(image, "WEBP", quality=quality, method=4)


def exact(image: Image.Image) -> str:
    """A small picture as the text of a link, to the last bit; what it tells of itself goes along."""
    return _linked(image, "PNG")


def _linked(image: Image.Image, form: str, **options: int) -> str:
    file = io.BytesIO()
    image.save(file, form, **options)
    return f"data:image/{form.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"


def img(link: str, alt: str, kind: str = "", size: tuple[int, int] | None = None) -> str:
    """A picture with its description; `kind` is a class of the style sheet."""
    sides = f' width="{size[0]}" height="{size[1]}"' if size else ""
    return f'<img src="{link}" alt="{text(alt)}"{_class(kind)}{sides}>'


def figure(inside: str, caption: str, kind: str = "") -> str:
    """Something with a caption, which is HTML already."""
    return f"<figure{_class(kind)}>{inside}<figcaption>{caption}</figcaption></figure>"


def strip(figures: Iterable[str], label: str) -> str:
    """Figures in a row; on a narrow screen the row moves under the finger, or by the arrow keys."""
    return f'<div class="strip" tabindex="0" role="group" aria-label="{text(label)}">{"".join(figures)}</div>'


def facts(rows: Iterable[tuple[str, str]]) -> str:
    """Names and values, which are HTML already."""
    return "<dl>" + "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in rows) + "</dl>"


def chart(lines: Sequence[tuple[str, Sequence[float]]], label: str, bottom: str, mark: bool = False) -> str:
    """Lines over the steps in one frame that begins at 0; their names stand below, `mark` adds a line that a script moves."""
    width, height = CHART
    left, right, top, under = MARGIN
    most = max(max(values) for _, values in lines) or 1.0
    count = max(len(values) for _, values in lines)
    across, up = width - left - right, height - top - under

    def x(step: int) -> float:
        return left + across * (step / max(1, count - 1))

    def y(value: float) -> float:
        return top + up * (1 - value / most)

    drawn = [
        f'<polyline class="line l{place}" points="{" ".join(f"{x(i):.1f},{y(v):.1f}" for i, v in enumerate(values))}"/>'
        for place, (_, values) in enumerate(lines)
    ]
    names = "".join(f'<span class="key l{place}">{name}</span>' for place, (name, _) in enumerate(lines))
    frame = (
        f'<line class="axis" x1="{left}" y1="{y(0):.1f}" x2="{width - right}" y2="{y(0):.1f}"/>'
        f'<line class="grid" x1="{left}" y1="{y(most):.1f}" x2="{width - right}" y2="{y(most):.1f}"/>'
        f'<text x="{left - 6}" y="{y(most) + 4:.1f}" class="end">{most:.3g}</text><text x="{left - 6}" y="{y(0) + 4:.1f}" '
        f'class="end">0</text><text x="{left}" y="{height - 8}">step 1</text>'
        f'<text x="{width - right}" y="{height - 8}" class="end">{bottom}</text>'
    )
    moved = f'<line class="mark" x1="{left}" y1="{top}" x2="{left}" y2="{y(0):.1f}"/>' if mark else ""
    ends = f' data-left="{left}" data-right="{width - right}"' if mark else ""
    svg = (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{text(label)}"{ends}>{frame}{"".join(drawn)}{moved}</svg>'
    )
    return f'<div class="chart">{svg}<p class="keys">{names}</p></div>'


def _class(kind: str) -> str:
    return f' class="{kind}"' if kind else ""
