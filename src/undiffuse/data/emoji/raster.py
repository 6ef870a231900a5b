"""From what an art set stores (an SVG body, a WebP file) to RGBA PNG bytes of one size."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from PIL import Image

from undiffuse.core.errors import DependencyError, explain

OVERSAMPLING = 2


@dataclass(frozen=True)
class Drawing:
    """One picture still to be drawn: `svg` or `bitmap` is set. Crosses process borders."""

    key: str
    size: int
    svg: str = ""
    bitmap: bytes = b""


@dataclass(frozen=True)
class Drawn:
    """A drawn picture, or why it could not be drawn."""

    key: str
    png: bytes = b""
    problem: str = ""


def svg_document(icon: Mapping[str, Any], defaults: Mapping[str, Any]) -> str:
    """Wrap an Iconify body in an SVG element that declares every namespace bodies use."""
    left, top = icon.get("left", 0), icon.get("top", 0)
    width = icon.get("width", defaults.get("width", 16))
    height = icon.get("height", defaults.get("height", 16))
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'width="{width}" height="{height}" viewBox="{left} {top} {width} {height}">{icon["body"]}</svg>'
    )


def require_resvg() -> None:
    """Raise DependencyError when SVG drawings cannot be drawn here."""
    try:
        import resvg_py  # noqa: F401
    except ImportError:
        raise DependencyError(
            explain("SVG pictures need the package resvg-py, which is not installed", "", "pip install 'undiffuse[data]'")
        ) from None


def draw(drawing: Drawing) -> Drawn:
    """Draw one picture; a failure is an answer, not an exception."""
    try:
        picture = _rasterise(drawing.svg, drawing.size) if drawing.svg else Image.open(io.BytesIO(drawing.bitmap))
        square = _square(picture.convert("RGBA"))
        # Pillow resizes RGBA in premultiplied alpha, so that hidden colours do not bleed into edges.
        small = square.resize((drawing.size, drawing.size), Image.Resampling.LANCZOS)
        if small.getchannel("A").getextrema()[1] == 0:
            return Drawn(drawing.key, problem="the picture is empty")
        out = io.BytesIO()
        small.save(out, "PNG")
        return Drawn(drawing.key, out.getvalue())
    except Exception as error:  # resvg raises ValueError and its own kinds; one bad icon must not stop a build
        return Drawn(drawing.key, problem=f"{type(error).__name__}: {error}")


def _rasterise(svg: str, size: int) -> Image.Image:
    import resvg_py

    return Image.open(io.BytesIO(bytes(resvg_py.svg_to_bytes(svg_string=svg, width=size * OVERSAMPLING))))


def _square(picture: Image.Image) -> Image.Image:
    """Centre on a transparent square of the longer side."""
    side = max(picture.size)
    if picture.size == (side, side):
        return picture
    canvas = Image.new("RGBA", (side, side))
    canvas.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    return canvas
