"""Pictures as files: the request inside, written whole or not at all, never over another file."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image, PngImagePlugin, UnidentifiedImageError

from undiffuse.core.errors import DataError, UsageError, explain
from undiffuse.core.pictures import to_rgb
from undiffuse.core.version import VERSION
from undiffuse.generation.additions import Addition
from undiffuse.generation.metadata import parameters_text, parse_parameters
from undiffuse.generation.request import PICTURES, Request

OWN_CHUNK = "undiffuse"
A1111_CHUNK = "parameters"
FORMAT = "undiffuse-picture/1"
DIGEST = "_sha256"
CONTEXT = "context."
WIDE = "I;16"  # a depth map of 16 bits, of which RGB would keep 8
WORDS = {
    "image": ("the picture that it was started from", "--init"),
    "mask": ("its mask", "--mask"),
    "layout": ("its semantic map", "--layout"),
    "small": ("the small picture", "--small"),
    "like": ("the picture that it resembles", "--like"),
    "depth": ("its depth map", "--depth"),
}
"""What pictures of a request are called, and the option of the command line that each is passed by."""


@dataclass(frozen=True)
class Origin:
    """What drew a picture: the model's name and fingerprint, the device, the precision, the place in a batch, and what it wore.

    And the refiner's name and fingerprint, where one finished it; and which words of its prompts the model read as others,
    None where that was not told yet.

    Arithmetic rounds differently in batches of different sizes; a picture comes out the same to the bit at the
    same `position` of a batch of the same size, whatever the other pictures of that batch are.
    """

    model: str
    model_hash: str
    device: str
    precision: str
    batch: int = 1
    position: int = 0
    additions: tuple[Addition, ...] = ()
    engine: str = "torch"
    refiner: str = ""
    refiner_hash: str = ""
    read_as: str | None = None

    def __post_init__(self) -> None:
        told = (one if isinstance(one, Addition) else Addition(**one) for one in self.additions)  # tables when read from JSON
        object.__setattr__(self, "additions", tuple(told))


UNSAID: dict[str, tuple[object, ...]] = {"additions": ((),), "engine": (Origin.engine,), "read_as": (None,)}
"""Values of an origin that a picture need not tell, by field; of any other field "" alone."""


def attach(image: Image.Image, request: Request, origin: Origin) -> Image.Image:
    """Put the request of this one picture into it: any later `image.save("x.png")` writes it along."""
    refiner = f"{origin.refiner} [{origin.refiner_hash}]" if origin.refiner else ""
    chunks = PngImagePlugin.PngInfo()
    parameters = parameters_text(
        request, origin.model, origin.model_hash, origin.additions, refiner=refiner, read_as=origin.read_as or ""
    )
    chunks.add_text(A1111_CHUNK, parameters)
    chunks.add_text(OWN_CHUNK, json.dumps(told_of(request, origin)))
    image.encoderinfo = {"pnginfo": chunks}  # Pillow merges these into the options of save()
    return image


def told_of(request: Request, origin: Origin) -> dict[str, Any]:
    """Everything that a picture tells of how it was made, as JSON holds it: of the pictures of its request only digests."""
    told: dict[str, Any] = {
        "format": FORMAT,
        "request": _without_pictures(request),
        "origin": {name: value for name, value in asdict(origin).items() if value not in UNSAID.get(name, ("",))},
        "versions": {"undiffuse": VERSION, "torch": torch.__version__},
    }
    return told | {f"{name}{DIGEST}": _digest(picture) for name, picture in _pictures(request).items()}


def read_told(path: str | Path) -> dict[str, Any] | None:
    """What the picture in this file tells, in the form of `told_of`; None when another program made it.

    Raises:
        DataError: when the file is no picture, or its text is damaged.
    """
    chunks = _chunks(Path(path))
    return _own(chunks[OWN_CHUNK], path) if OWN_CHUNK in chunks else None


def open_folder(folder: str | Path) -> Path:
    """The folder, made when missing and checked for writing, so that nobody draws for hours and then cannot save.

    Raises:
        UsageError: when it cannot be made or written into.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        given = f"cannot write into {str(folder)!r} ({error.strerror})"
        raise UsageError(explain(given, "a folder that can be written into is needed", "name another one")) from None
    return folder


def write_picture(image: Image.Image, folder: str | Path, tail: str) -> Path:
    """Write `<index>-<tail>.png` with the next free index of the folder, which is made when missing.

    The file appears under its name when it is whole; a name that is taken, by whomever, is passed over.

    Raises:
        UsageError: when the folder cannot be written into.
    """
    folder = open_folder(folder)
    temporary = folder / f".{tail}-{secrets.token_hex(8)}.part"
    try:
        image.save(temporary, "PNG")
        return _publish(temporary, folder, tail)
    finally:
        temporary.unlink(missing_ok=True)


def read_request(path: str | Path, image: Image.Image | None = None, **changes: Any) -> Request:
    """The request of the one picture in this file: our own chunk, else the text of AUTOMATIC1111's web UI.

    Args:
        path: a PNG file.
        image: the picture that it was started from, when it was; it is not stored in the file.
        changes: fields that are to have another value, for instance a solver where the file names one that we lack.
            `mask`, `layout`, `small`, `like`, `depth` and pictures in `context` are as `image`: needed if they were, else
            passed over.

    Raises:
        DataError: when the file is no picture or tells no request, or a picture is missing or another one.
        SpecError: when it asks for something that we do not have.
    """
    fields, needed = _stored(path)
    extra = {name: value for name, value in changes.get("context", {}).items() if isinstance(value, Image.Image)}
    given = {"image": image, **{name: changes.pop(name, None) for name in PICTURES[1:]}}
    given |= {f"{CONTEXT}{name}": value for name, value in extra.items()}
    missing = [name for name in needed if given.get(name) is None]
    if missing:
        raise DataError(_missing(missing, path))
    pictures = {name: given[name] for name in needed if not name.startswith(CONTEXT)}
    fields = {**fields, **changes, **pictures, "context": {**fields.get("context", {}), **changes.get("context", {})}}
    request = Request(**fields)
    for name, picture in _pictures(request).items():
        if needed.get(name) not in (None, _digest(picture)):
            words = f"{path} was drawn from another picture than this one"
            raise DataError(explain(words if name == "image" else f"{words} for {name!r}", "its pixels must be the same"))
    return request


def read_words(path: str | Path) -> Request:
    """What `read_request` reads, but for pictures that it was drawn from: a request of everything that can be told in words.

    Raises:
        DataError: when the file is no picture or tells no request.
        SpecError: when it asks for something that we do not have.
    """
    fields, _ = _stored(path)
    return Request(**{name: value for name, value in fields.items() if name != "fill"})


def read_origin(path: str | Path) -> Origin | None:
    """What drew the picture in this file; None when another program did.

    Raises:
        DataError: when the file is no picture, or its text is damaged.
    """
    chunks = _chunks(Path(path))
    if OWN_CHUNK not in chunks:
        return None
    try:
        return Origin(**_own(chunks[OWN_CHUNK], path)["origin"])
    except (KeyError, TypeError):
        raise _damaged(path) from None


def _stored(path: str | Path) -> tuple[dict[str, Any], dict[str, str | None]]:
    """Fields of the request in a file, and the digests of the pictures that it was drawn from; None where it tells none."""
    chunks = _chunks(Path(path))
    if OWN_CHUNK in chunks:
        told = _own(chunks[OWN_CHUNK], path)
        return told["request"], {key.removesuffix(DIGEST): told[key] for key in told if key.endswith(DIGEST)}
    if A1111_CHUNK in chunks:
        fields = parse_parameters(chunks[A1111_CHUNK])
        return fields, {"image": None} if "strength" in fields else {}
    allowed = f"a PNG with the text {OWN_CHUNK!r} or {A1111_CHUNK!r} is needed"
    remedy = "take the file as it was written, for many programs drop such text"
    raise DataError(explain(f"{path} tells nothing about how it was made", allowed, remedy))


def _own(text: str, path: str | Path) -> dict[str, Any]:
    """The content of our own chunk, of which `request` is a dictionary."""
    try:
        told = json.loads(text)
        form, request = told["format"], dict(told["request"])
    except (TypeError, KeyError, ValueError):
        raise _damaged(path) from None
    if form != FORMAT:
        given = f"the request in {path} is of format {form!r}"
        raise DataError(explain(given, f"this version reads {FORMAT}", "update undiffuse"))
    return {**told, "request": request}


def _damaged(path: str | Path) -> DataError:
    return DataError(explain(f"the request in {path} is damaged", f"JSON of {FORMAT} is needed"))


def _pictures(request: Request) -> dict[str, Image.Image]:
    """All pictures of a request; those in its context are called context.NAME."""
    extra = {f"{CONTEXT}{name}": value for name, value in request.context.items() if isinstance(value, Image.Image)}
    return {**request.pictures(), **extra}


def _without_pictures(request: Request) -> dict[str, Any]:
    """The request as JSON holds it; its pictures may be private, and stay out."""
    plain = {name: value for name, value in request.context.items() if not isinstance(value, Image.Image)}
    told = request.model_copy(update={"context": plain})
    return told.model_dump(mode="json", exclude=set(PICTURES), exclude_none=True)


def _missing(names: list[str], path: str | Path) -> str:
    """What to say when pictures are needed that were not passed along."""
    if names == ["image"]:
        given, allowed = f"{path} was drawn from another picture", "that one is not stored in it"
    else:
        given = f"{path} was drawn with {' and '.join(WORDS.get(name, (name,))[0] for name in names)}"
        allowed = "pictures are not stored in it"
    options = " ".join(WORDS[name][1] for name in names if name in WORDS)
    where = f" ({options} on the command line)" if options else ""
    return explain(given, allowed, f"pass {'it' if len(names) == 1 else 'them'} along{where}")


def _digest(image: Image.Image) -> str:
    picture = image if image.mode == WIDE else to_rgb(image)
    return hashlib.sha256(repr(picture.size).encode() + picture.tobytes()).hexdigest()


def _chunks(path: Path) -> dict[str, str]:
    try:
        with Image.open(path) as picture:
            picture.load()  # text may stand after the pixels
            return {str(name): text for name, text in picture.info.items() if isinstance(text, str)}
    except FileNotFoundError:
        raise DataError(explain(f"{path} is not there", "a PNG file is needed", "check the path")) from None
    except (UnidentifiedImageError, OSError, SyntaxError):
        raise DataError(explain(f"{path} cannot be read as a picture", "a PNG file is needed")) from None


def _publish(temporary: Path, folder: Path, tail: str) -> Path:
    """Give a whole file the next free name. A link fails where the name is taken; that keeps two processes apart."""
    taken = [int(match[1]) for entry in folder.iterdir() if (match := re.match(r"(\d{5,})-.*\.png$", entry.name))]
    index = max(taken, default=-1) + 1
    while True:
        path = folder / f"{index:05d}-{tail}.png"
        try:
            os.link(temporary, path)
            return path
        except FileExistsError:
            index += 1
        except OSError:  # no links on this file system: claim the name with an empty file first
            if _claim(path):
                os.replace(temporary, path)
                return path
            index += 1


def _claim(path: Path) -> bool:
    try:
        path.open("x").close()
    except FileExistsError:
        return False
    return True
