"""Pictures as fields of a request: how they come in, and how JSON carries them."""

from __future__ import annotations

import base64
import binascii
import io
import json
from typing import Annotated, Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from pydantic import BeforeValidator, PlainSerializer

from undiffuse.core.errors import explain
from undiffuse.core.pictures import to_rgb

DATA_URL = "data:image/png;base64,"
MOST = 2**16 - 1  # level of a depth map
OPAQUE = (255, 255)  # least and most of an alpha channel that says nothing


def _opened(value: Any) -> Any:
    """A picture from base64 text, with or without a data URL in front, or from an 8-bit array."""
    if isinstance(value, np.ndarray) and value.dtype == np.uint8 and (value.ndim == 2 or value.shape[2:] in ((3,), (4,))):
        return Image.fromarray(value)
    return _from_base64(value) if isinstance(value, str) else value


def _rgb(value: Any) -> Any:
    value = _opened(value)
    return to_rgb(value) if isinstance(value, Image.Image) else value


def _mask(value: Any) -> Any:
    """White or opaque where the picture is to be made anew: grey levels, or the alpha channel where that tells anything.

    Masks of 0 and 1 count too, arrays of truth values, and coloured masks, which hide whatever is not black.
    """
    if isinstance(value, np.ndarray) and value.dtype == np.bool_:
        value = value.astype(np.uint8)
    value = _opened(value)
    if not isinstance(value, Image.Image):
        return value
    value = ImageOps.exif_transpose(value)
    if value.has_transparency_data:
        alpha = value.convert("RGBA").getchannel("A")
        if alpha.getextrema() != OPAQUE:
            return alpha
    channels = np.asarray(value.convert("RGB"))
    levels = channels.max(2)
    if levels.max() == 1 or (channels.min(2) != levels).any():  # 0 and 1, or colours
        levels = (levels > 0) * np.uint8(OPAQUE[1])
    return Image.fromarray(levels)


def _indices(value: Any) -> Any:
    """Class indices as they are; colours stay colours."""
    value = _opened(value)
    if isinstance(value, Image.Image):
        value = ImageOps.exif_transpose(value)
    if not isinstance(value, Image.Image) or value.mode == "L":
        return value
    if value.mode == "P":
        return Image.fromarray(np.asarray(value))  # the indices, without the palette
    return value.convert("RGB")


def _depth(value: Any) -> Any:
    """Levels of 8 or 16 bits, more where nearer: colours become grey, floating-point numbers get 16 bits from least to most."""
    if isinstance(value, np.ndarray) and value.ndim == 2 and value.dtype in (np.uint16, np.float16, np.float32, np.float64):
        return _wide(value)
    value = _opened(value)
    if not isinstance(value, Image.Image):
        return value
    value = ImageOps.exif_transpose(value)
    if value.mode[0] in "IF":
        return _wide(np.asarray(value))
    return value if value.mode == "L" else to_rgb(value).convert("L")


def _wide(levels: np.ndarray) -> Image.Image:
    """Levels (H, W) in 16 bits; such as have no place there are stretched from the least to the most of them."""
    if not np.isfinite(levels).all():
        raise ValueError(explain("a depth map with levels that are no numbers", "all must be finite"))
    low, high = float(levels.min()), float(levels.max())
    if levels.dtype.kind == "f" or low < 0 or high > MOST:
        levels = np.rint((levels.astype(np.float64) - low) * (MOST / ((high - low) or 1.0)))
    return Image.fromarray(levels.astype(np.uint16))


def _encoded(image: Image.Image) -> str:
    file = io.BytesIO()
    image.save(file, "PNG")
    return DATA_URL + base64.b64encode(file.getvalue()).decode()


def _from_base64(text: str) -> Image.Image:
    try:
        data = base64.b64decode(text.rpartition(",")[2], validate=True)
        image = Image.open(io.BytesIO(data))
        image.load()
    except (binascii.Error, UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError):
        raise ValueError(explain("the text is no picture", "a PNG, JPEG or WebP file in base64 is needed")) from None
    return image


_AS_TEXT = PlainSerializer(_encoded, when_used="json-unless-none")


def _plain(value: Any) -> Any:
    """A picture in RGB, from an 8-bit array and from our own JSON too; numbers, texts and lists of them as they are."""
    written = isinstance(value, str) and value.startswith(DATA_URL)  # by `_as_json`
    value = _rgb(value) if written or isinstance(value, Image.Image | np.ndarray) else value
    if isinstance(value, Image.Image):
        return value
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError):
        allowed = "a picture, an 8-bit array, or numbers, texts and lists of them"
        raise ValueError(explain(f"a context of type {type(value).__name__}", allowed)) from None


def _as_json(value: Any) -> Any:
    return _encoded(value) if isinstance(value, Image.Image) else value


Context = Annotated[Any, BeforeValidator(_plain), PlainSerializer(_as_json, when_used="json-unless-none")]
Rgb = Annotated[Image.Image, BeforeValidator(_rgb), _AS_TEXT]
Mask = Annotated[Image.Image, BeforeValidator(_mask), _AS_TEXT]
DepthMap = Annotated[Image.Image, BeforeValidator(_depth), _AS_TEXT]
ClassMap = Annotated[Image.Image, BeforeValidator(_indices), _AS_TEXT]
