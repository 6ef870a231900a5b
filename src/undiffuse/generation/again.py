"""Drawing a picture again from what its PNG tells: on what, at which place of a batch, and did it come out the same?"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from PIL import Image, ImageChops

from undiffuse.core.devices import choose_device
from undiffuse.core.errors import DeviceError
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
    """What of the origin is not the same any more, in words; "" when all is."""
    old, new = asdict(before), asdict(now)
    return ", ".join(f"{name.replace('_', ' ')} {old[name]} then and {new[name]} now" for name in old if old[name] != new[name])
