"""Pictures that are given on the page: opened from the file that was uploaded, what is transparent laid on white."""

from __future__ import annotations

from typing import Any

import gradio as gr
from PIL import Image, UnidentifiedImageError

from undiffuse.core.errors import DataError, UsageError, explain
from undiffuse.core.pictures import to_rgb


def drop(label: str, **more: Any) -> gr.Image:
    """A field that a picture is dropped onto; its value is the path of the file as it was uploaded."""
    shown: dict[str, Any] = {"height": 260, "sources": ["upload", "clipboard"], "buttons": ["fullscreen"], **more}
    return gr.Image(type="filepath", image_mode=None, label=label, **shown)  # type: ignore[arg-type]


def opened(path: str | None, purpose: str) -> Image.Image:
    """The picture in an uploaded file, upright, in RGB and on white.

    Args:
        path: what a field of `drop` holds.
        purpose: what it is needed for, as in "one to enlarge".

    Raises:
        UsageError: when there is none.
        DataError: when the file is no picture.
    """
    if path is None:
        raise UsageError(explain("no picture", f"{purpose} is needed", "drop one onto the page"))
    try:
        with Image.open(path) as image:
            return to_rgb(image)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        allowed = "PNG, JPEG and WebP are read among others"
        raise DataError(explain("the file cannot be read as a picture", allowed, "save it as PNG")) from None
