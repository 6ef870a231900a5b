"""Pictures as files: the request inside, written whole or not at all, never over another file."""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image, PngImagePlugin, UnidentifiedImageError

from undiffuse.core.errors import DataError, explain
from undiffuse.core.pictures import to_rgb
from undiffuse.core.version import VERSION
from undiffuse.generation.metadata import parameters_text, parse_parameters
from undiffuse.generation.request import Request

OWN_CHUNK = "undiffuse"
A1111_CHUNK = "parameters"
FORMAT = "undiffuse-picture/1"


@dataclass(frozen=True)
class Origin:
    """What drew a picture: the model's name and fingerprint, the device and the precision."""

    model: str
    model_hash: str
    device: str
    precision: str


def attach(image: Image.Image, request: Request, origin: Origin) -> Image.Image:
    """Put the request of this one picture into it: any later `image.save("x.png")` writes it along."""
    told: dict[str, Any] = {
        "format": FORMAT,
        "request": json.loads(request.replace(image=None).to_json()),
        "origin": asdict(origin),
        "versions": {"undiffuse": VERSION, "torch": torch.__version__},
    }
    if request.image is not None:
        told["image_sha256"] = _digest(request.image)  # the picture itself may be private and stays out
    chunks = PngImagePlugin.PngInfo()
    chunks.add_text(A1111_CHUNK, parameters_text(request, origin.model, origin.model_hash))
    chunks.add_text(OWN_CHUNK, json.dumps(told))
    image.encoderinfo = {"pnginfo": chunks}  # Pillow merges these into the options of save()
    return image


def write_picture(image: Image.Image, folder: str | Path, tail: str) -> Path:
    """Write `<index>-<tail>.png` with the next free index of the folder, which is made when missing."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = _reserve(folder, tail)
    temporary = path.with_name(f".{path.name}.part")
    try:
        image.save(temporary, "PNG")
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        raise
    return path


def read_request(path: str | Path, image: Image.Image | None = None) -> Request:
    """The request of the one picture in this file: our own chunk, else the text of AUTOMATIC1111's web UI.

    Args:
        path: a PNG file.
        image: the picture that it was started from, when it was; it is not stored in the file.

    Raises:
        DataError: when the file is no picture or tells no request, or `image` is missing or another one.
        SpecError: when it asks for something that we do not have.
    """
    chunks = _chunks(Path(path))
    if OWN_CHUNK in chunks:
        fields, digest = _own_fields(chunks[OWN_CHUNK], path)
        started = digest is not None
    elif A1111_CHUNK in chunks:
        fields, digest = parse_parameters(chunks[A1111_CHUNK]), None
        started = "strength" in fields
    else:
        allowed = f"a PNG with the text {OWN_CHUNK!r} or {A1111_CHUNK!r} is needed"
        raise DataError(explain(f"{path} tells nothing about how it was made", allowed))
    if not started:
        return Request(**fields)
    return Request(**fields, image=_matching(image, digest, path))


def _own_fields(text: str, path: str | Path) -> tuple[dict[str, Any], str | None]:
    try:
        told = json.loads(text)
        return dict(told["request"]), told.get("image_sha256")
    except (json.JSONDecodeError, TypeError, KeyError, ValueError):
        raise DataError(explain(f"the request in {path} is damaged", f"JSON of {FORMAT} is needed")) from None


def _matching(image: Image.Image | None, digest: str | None, path: str | Path) -> Image.Image:
    if image is None:
        remedy = "pass it along (--init on the command line)"
        raise DataError(explain(f"{path} was drawn from another picture", "that one is not stored in it", remedy))
    if digest is not None and _digest(image) != digest:
        raise DataError(explain(f"{path} was drawn from another picture than this one", "its pixels must be the same"))
    return image


def _digest(image: Image.Image) -> str:
    picture = to_rgb(image)
    return hashlib.sha256(repr(picture.size).encode() + picture.tobytes()).hexdigest()


def _chunks(path: Path) -> dict[str, str]:
    try:
        with Image.open(path) as picture:
            picture.load()  # text may stand after the pixels
            return {name: text for name, text in picture.info.items() if isinstance(text, str)}
    except FileNotFoundError:
        raise DataError(explain(f"{path} is not there", "a PNG file is needed", "check the path")) from None
    except (UnidentifiedImageError, OSError, SyntaxError):
        raise DataError(explain(f"{path} cannot be read as a picture", "a PNG file is needed")) from None


def _reserve(folder: Path, tail: str) -> Path:
    """An empty file under the next free name: creating it is what keeps two processes apart."""
    taken = [int(match[1]) for entry in folder.iterdir() if (match := re.match(r"(\d{5,})-.*\.png$", entry.name))]
    index = max(taken, default=-1) + 1
    while True:
        path = folder / f"{index:05d}-{tail}.png"
        try:
            path.open("x").close()
            return path
        except FileExistsError:
            index += 1
