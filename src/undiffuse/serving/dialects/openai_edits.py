"""What OpenAI's edits mean by their pictures: where the mask, or the picture itself, is transparent is drawn anew."""

from __future__ import annotations

from typing import Any

from PIL import Image, ImageChops

from undiffuse.core.errors import DataError, SpecError, explain
from undiffuse.serving.limits import Limits

OPAQUE = (255, 255)


def masked(images: list[bytes], masks: list[bytes], limits: Limits) -> dict[str, Any]:
    """The fields `image` and `mask` of a request from uploaded files.

    Raises:
        SpecError: when there are several pictures, or none.
        DataError: when one cannot be read, or the mask has nothing transparent, or another size.
    """
    if len(images) != 1 or len(masks) > 1:
        raise SpecError(explain(f"{len(images)} pictures and {len(masks)} masks", "one picture and at most one mask are taken"))
    image = limits.read_picture(images[0])
    hole = _transparent(limits.read_picture(masks[0]) if masks else image)
    if masks and hole is None:
        given = "a mask without anything transparent"
        raise DataError(explain(given, "what is to be drawn anew must be transparent", "send a PNG with an alpha channel"))
    return {"image": image} if hole is None else {"image": image.convert("RGB"), "mask": hole}


def _transparent(picture: Image.Image) -> Image.Image | None:
    """White where a picture is transparent; None where it is nowhere."""
    if not picture.has_transparency_data:
        return None
    alpha = picture.convert("RGBA").getchannel("A")
    return None if alpha.getextrema() == OPAQUE else ImageChops.invert(alpha)
