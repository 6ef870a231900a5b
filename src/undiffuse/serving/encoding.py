"""Finished pictures as bytes for clients, in the format that they ask for."""

from __future__ import annotations

import base64
import io
from typing import Literal

from PIL import ExifTags, Image

Format = Literal["png", "jpeg", "webp"]
QUALITY = 92
USER_COMMENT = 0x9286
UNICODE = b"UNICODE\0"  # what EXIF puts before text in UTF-16


def encode(image: Image.Image, form: Format = "png", quality: int = QUALITY) -> bytes:
    """The bytes of a picture; the text that tells how it was drawn goes along, in JPEG and WebP as EXIF."""
    file = io.BytesIO()
    if form == "png":
        image.save(file, "PNG")
        return file.getvalue()
    exif = Image.Exif()
    text = image.info.get("parameters")
    if text:
        exif.get_ifd(ExifTags.IFD.Exif)[USER_COMMENT] = UNICODE + text.encode("utf-16-be")
    image.convert("RGB").save(file, form.upper(), quality=quality, exif=exif)
    return file.getvalue()


def recoded(data: bytes, form: Format = "png", quality: int = QUALITY) -> bytes:
    """A PNG file of ours in another format; as PNG it is the file itself, to the byte."""
    if form == "png":
        return data
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        return encode(image, form, quality)


def base64_of(data: bytes) -> str:
    """Bytes as base64 text."""
    return base64.b64encode(data).decode()
