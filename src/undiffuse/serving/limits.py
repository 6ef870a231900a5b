"""What a server lets anybody ask for, and pictures from outside, read with care."""

from __future__ import annotations

import base64
import binascii
import io
import warnings
from typing import Annotated

from PIL import Image, UnidentifiedImageError
from pydantic import Field

from undiffuse.core.errors import DataError, SpecError, explain
from undiffuse.core.spec import Spec
from undiffuse.generation.request import Request

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
MEBI = 2**20

Positive = Annotated[int, Field(ge=1)]


class Limits(Spec):
    """Upper ends of everything that a client decides.

    | field        | meaning                                                    |
    |--------------|------------------------------------------------------------|
    | `queue`      | jobs that are not finished, of everybody together          |
    | `count`      | pictures of a job                                          |
    | `steps`      | steps of a picture, those of a second pass too             |
    | `side`       | width and height of a picture to be drawn, in pixels       |
    | `body`       | bytes of a request, uploads included                       |
    | `pixels`     | pixels of an uploaded picture, before anything is decoded  |
    | `seconds`    | from a job's arrival to its end                            |
    """

    queue: Positive = 64
    count: Positive = 16
    steps: Positive = 150
    side: Positive = 2048
    body: Positive = 32 * MEBI
    pixels: Positive = 16_000_000
    seconds: Annotated[float, Field(gt=0)] = 1800.0

    def check(self, request: Request) -> None:
        """Refuse a request that goes beyond.

        Raises:
            SpecError: naming the first limit.
        """
        hires = request.hires
        asked = {"count": request.count, "steps": request.steps + (0 if hires is None else hires.steps or request.steps)}
        beyond = next((name for name, value in asked.items() if value > getattr(self, name)), None)
        if beyond is not None:
            raise SpecError(explain(f"{beyond} = {asked[beyond]}", f"this server allows up to {getattr(self, beyond)}"))
        side = max(request.width or 0, request.height or 0) * (1 if hires is None else hires.scale)
        if side > self.side:
            raise SpecError(explain(f"a side of {side:g} pixels", f"this server allows up to {self.side}"))

    def read_picture(self, data: bytes) -> Image.Image:
        """The picture in these bytes, its size looked at before it is decoded.

        Raises:
            DataError: when it is none, of another format, or too large.
        """
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                picture = Image.open(io.BytesIO(data), formats=FORMATS)
                if picture.width * picture.height > self.pixels:
                    given = f"a picture of {picture.width}x{picture.height}"
                    raise DataError(explain(given, f"up to {self.pixels} pixels are read", "make it smaller"))
                picture.load()
        except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError, Warning):
            allowed = f"a whole {', '.join(FORMATS)} file is needed"
            raise DataError(explain("the data is no picture", allowed)) from None
        return picture

    def read_base64(self, text: str) -> Image.Image:
        """The picture in base64 text, with or without a data URL in front; no address is ever fetched.

        Raises:
            DataError: as `read_picture`.
        """
        try:
            data = base64.b64decode(text.rpartition(",")[2] if text.startswith("data:") else text, validate=True)
        except (binascii.Error, ValueError):
            raise DataError(explain("the text is no picture", "a picture file in base64 is needed")) from None
        return self.read_picture(data)
