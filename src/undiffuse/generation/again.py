"""Drawing a picture again from what its PNG tells: on what, at which place of a batch, and did it come out the same?"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

from PIL import Image, ImageChops

from undiffuse.core.devices import choose_device
from undiffuse.core.errors import DeviceError
from undiffuse.generation.additions import SHORT_HASH
from undiffuse.generation.output import Origin
from undiffuse.generation.request import Request


def copies(request: Request, origin: Origin) -> list[Request]:
    """A full batch of this picture, so that the one at `origin.position` is rounded as it was the first time."""
    return [request] * origin.batch


def is_here(origin: Origin) -> bool:
    """Whether this machine has the device that a picture was drawn on."""
    try:
        choose_device(origin.device)
    except DeviceError:
        return False
    return True


def furthest(image: Image.Image, path: str | Path) -> int | None:
    """By how many of 255 levels any pixel differs from the picture in this file; None where the sizes differ."""
    with Image.open(path) as before:
        old = before.convert("RGB")
    if old.size != image.size:
        return None
    return max(band.getextrema()[1] for band in ImageChops.difference(old, image.convert("RGB")).split())  # type: ignore[index]


def changed(before: Origin, now: Origin) -> str:
    """What of the origin is not the same any more, in words; "" when all is. What either does not know is passed over."""
    names = [field.name for field in fields(Origin)]
    pairs = {name: (getattr(before, name), getattr(now, name)) for name in names}
    told = {name: (_told(old), _told(new)) for name, (old, new) in pairs.items() if None not in (old, new)}
    return ", ".join(f"{name.replace('_', ' ')} {old} then and {new} now" for name, (old, new) in told.items() if old != new)


def _told(value: object) -> str:
    """A value of an origin in words; of several things each with its hash, for files of one name may differ."""
    if not isinstance(value, tuple):
        return str(value) or "none"
    return " ".join(f"{one} ({one.hash[:SHORT_HASH]})" for one in value) or "none"
