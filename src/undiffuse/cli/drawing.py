"""What all commands that draw have in common: files to requests, requests to pictures on disk, and what is told of them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from undiffuse.cli.console import Console
from undiffuse.cli.options import AT_ONCE
from undiffuse.core.errors import DataError, UsageError, explain

if TYPE_CHECKING:
    from PIL.Image import Image

    from undiffuse.generation.generator import Generator
    from undiffuse.generation.output import Origin
    from undiffuse.generation.request import Request


@dataclass(frozen=True)
class Order:
    """What to draw: prompts, the PNG to draw again, files of pictures and values of other fields of a request.

    `usual` has values for fields that neither options nor the PNG tell, `needs` names fields that the model must have
    learned; `named` tells that something was asked for at all, which only a model that reads nothing can do without.
    """

    words: list[str] = field(default_factory=list)
    again: Path | None = None
    pictures: Mapping[str, Path | None] = field(default_factory=dict)
    fields: Mapping[str, Any] = field(default_factory=dict)
    usual: Mapping[str, Any] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    named: bool = True


@dataclass(frozen=True)
class Means:
    """What to draw with; `loras` are texts FILE or FILE:WEIGHT, `embeddings` files of learned words."""

    model: str | None = None
    device: str | None = None
    precision: str | None = None
    batch: int | None = None
    loras: tuple[str, ...] = ()
    embeddings: tuple[Path, ...] = ()
    engine: str | None = None
    memory: str | None = None
    vae: Path | None = None
    refiner: str | None = None
    lora_dir: Path | None = None


def carry_out(order: Order, means: Means, out: Path, grid: bool, console: Console) -> None:
    """Draw what was ordered, write it into the folder `out` and tell of it.

    Raises:
        UndiffuseError: before anything is drawn, when something of it cannot be had.
    """
    from undiffuse.generation.output import open_folder

    requests, same = read_requests(order)
    open_folder(out)
    draw, origin = generator_for(order, means, same, console)
    remarks = _remarks(draw, requests, console)
    images, found = _draw(draw, requests, origin, out, console, keep=grid or order.again is not None)
    found |= {"remarks": remarks, "model": draw.origin.model, "device": draw.origin.device, "precision": draw.origin.precision}
    if grid:
        found["sheet"] = _write_sheet(images, out, console)
    if order.again is not None and same:
        found["same"] = _compare(draw, images[0], requests[0], order.again, console)
    console.result(found)


def generator_for(order: Order, means: Means, same: bool, console: Console) -> tuple[Generator, Origin | None]:
    """What draws an order; and if that is to be drawn as it was the first time (`same`), and can be, what drew it then.

    Raises:
        UndiffuseError: when there is no such model or device, or the model has not learned what is ordered.
    """
    from undiffuse.generation.output import read_origin

    chosen = means.batch or means.device or means.precision or means.engine or means.memory
    origin = read_origin(order.again) if order.again is not None and same and not chosen else None
    draw = _generator(means, origin, console)
    if not order.named and draw.model.conditioner.fields:
        raise nothing_named()
    draw.model.conditioner.require(order.needs)
    return draw, origin


def nothing_named() -> UsageError:
    """The refusal to draw without being told what."""
    return UsageError(explain("nothing to draw was named", "a prompt, --label, --prompts-file or --from is needed"))


def scales(options: list[str] | None) -> dict[str, Any]:
    """The field `scales` of a request from texts like "map=2"; nothing when there are none.

    Raises:
        UsageError: for a text that is none.
    """
    found: dict[str, float] = {}
    for option in options or []:
        kind, equals, number = option.partition("=")
        try:
            found[kind.strip()] = float(number)
        except ValueError:
            equals = ""
        if not equals or not kind.strip():
            raise UsageError(explain(f"--scale {option!r}", "the form is KIND=NUMBER", "for instance --scale map=2"))
    return {"scales": found} if found else {}


def boxes(options: list[str] | None) -> dict[str, Any]:
    """The field `boxes` of a request from texts like "0,0.5,1,1,grass"; nothing when there are none.

    Raises:
        UsageError: for a text that is none.
    """
    found: list[tuple[Any, ...]] = []
    for option in options or []:
        *box, label = (part.strip() for part in option.split(",", 4))
        try:
            sides = [float(side) for side in box]
        except ValueError:
            sides = []
        if len(sides) != 4 or not label:
            remedy = 'for instance --box "0.1,0.2,0.5,0.9,fox"'
            raise UsageError(explain(f"--box {option!r}", "the form is left,top,right,bottom,label", remedy))
        found.append((*sides, label))
    return {"boxes": tuple(found)} if found else {}


def variations(option: str | None) -> dict[str, Any]:
    """The field `variation` of a request from a text like "5:0.2"; nothing for None.

    Raises:
        UsageError: for a text that is none.
    """
    if option is None:
        return {}
    seed, colon, strength = option.partition(":")
    try:
        found = int(seed), float(strength)
    except ValueError:
        colon, found = "", (0, 0.0)
    if not colon:
        raise UsageError(explain(f"--variation {option!r}", "the form is SEED:STRENGTH", "for instance --variation 5:0.2"))
    return {"variation": found}


def hires(scale: float | None, strength: float | None, steps: int | None, upscaler: str | None) -> dict[str, Any]:
    """The field `hires` of a request; nothing when no second pass is asked for.

    Raises:
        UsageError: when only details of one are told.
    """
    told = {"strength": strength, "steps": steps, "upscaler": upscaler}
    details = {name: value for name, value in told.items() if value is not None}
    if scale is None and details:
        given = f"--hires-{next(iter(details))} without --hires"
        raise UsageError(explain(given, "it is about a second pass", "add --hires 2"))
    return {} if scale is None else {"hires": {"scale": scale, **details}}


def sides(size: str | None) -> dict[str, int]:
    """Width and height out of "128" or "192x128"; nothing for None.

    Raises:
        UsageError: when it is neither.
    """
    if size is None:
        return {}
    found = re.fullmatch(r"(\d+)(?:[xX](\d+))?", size)
    if found is None:
        raise UsageError(explain(f"--size {size}", "a side or width x height in pixels", "for instance --size 192x128"))
    return {"width": int(found[1]), "height": int(found[2] or found[1])}


def lora_file(text: str) -> tuple[Path, float]:
    """The file and the weight in a text like "fox.safetensors:0.8"; 1 where there is none.

    Raises:
        UsageError: when what follows the colon is no number.
    """
    path, colon, number = text.rpartition(":")
    if not colon or Path(text).exists():
        return Path(text), 1.0
    try:
        weight = float(number)
    except ValueError:
        weight = math.nan
    if not math.isfinite(weight):
        raise UsageError(
            explain(f"--lora {text!r}", "the form is FILE or FILE:WEIGHT", "for instance --lora fox.safetensors:0.8")
        )
    return Path(path), weight


def read_picture(path: Path, name: str = "image") -> Image:
    """The picture in a file, for this field of a request: of a layout the class indices, if it holds such, of a
    depth map all 16 bits.

    Raises:
        DataError: when it cannot be read.
    """
    import io

    from PIL import Image

    from undiffuse.data.annotations import decode_map
    from undiffuse.data.decoding import SMALLEST_SIDE, decode

    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(explain(f"{path} cannot be read ({error.strerror})", "a picture is needed", "check the path")) from None
    picture = decode(data, str(path), smallest=1 if name in ("small", "layout") else SMALLEST_SIDE).image
    if name == "layout" and Image.open(io.BytesIO(data)).mode in ("1", "L", "P"):
        return decode_map(data, str(path))
    if name == "depth" and (wide := Image.open(io.BytesIO(data))).mode.startswith("I"):
        return wide
    return picture


def read_requests(order: Order) -> tuple[list[Request], bool]:
    """One request a prompt, and whether they are what the PNG tells and nothing else.

    Without a prompt it is the one that the PNG tells, or one that names a class, a picture or nothing.

    Raises:
        UndiffuseError: when a file cannot be read, or a field is wrong.
    """
    from undiffuse.generation.output import read_request
    from undiffuse.generation.request import Request

    pictures = {name: read_picture(path, name) for name, path in order.pictures.items() if path is not None}
    fields = {name: value for name, value in order.fields.items() if value is not None}
    if order.again is None:
        added = pictures
        base = Request(**{**pictures, **fields})
    else:
        base = read_request(order.again, **pictures, **fields)
        added = {name: picture for name, picture in pictures.items() if name not in base.pictures()}
        whole = {"strength": 1.0} if "mask" in added and "strength" not in fields else {}  # as with a mask from the start
        start = {"sketch": None} if "image" in added and "sketch" not in fields else {}  # that was of words alone
        base = base.replace(**added, **whole, **start)
    if "strength" in fields and base.image is None:
        raise UsageError(explain("--strength without --init", "a picture to start from is needed", "add --init picture.png"))
    usual = {name: value for name, value in order.usual.items() if name not in base.model_fields_set}
    base = base.replace(**usual)
    seed = {"seed": fields["seed"]} if "seed" in fields else {}  # of -1 each prompt draws its own
    requests = [base.replace(prompt=prompt, **seed) for prompt in order.words] or [base]
    return requests, not (order.words or fields or added or usual)


def _generator(means: Means, origin: Origin | None, console: Console) -> Generator:
    """A generator as the options say; for a picture that is drawn again as it was then, if that device is here."""
    from undiffuse.checkpoints.adapters import add_embedding, add_lora
    from undiffuse.checkpoints.api import load_model
    from undiffuse.generation.again import is_here
    from undiffuse.generation.generator import Generator

    device, precision, batch, engine = means.device, means.precision, means.batch, means.engine
    if origin is not None and is_here(origin):
        device, precision, batch, engine = origin.device, origin.precision, origin.batch, origin.engine
    model = load_model(means.model, means.vae)
    for text in means.loras:
        add_lora(model, *lora_file(text))
    for path in means.embeddings:
        add_embedding(model, path)
    options: dict[str, Any] = {"engine": engine} if engine is not None else {}
    if means.lora_dir is not None:
        options["lora_dir"] = means.lora_dir
    if means.refiner is not None:
        options["refiner"] = load_model(means.refiner)
    return Generator(
        model, device=device, precision=precision, batch=batch or AT_ONCE, memory=means.memory, tell=console.remark, **options
    )


def _remarks(draw: Generator, requests: list[Request], console: Console) -> list[str]:
    from undiffuse.generation.sample import read_as, unread

    texts = dict.fromkeys(text for request in requests for text in unread(request, draw.model))
    remarks = [f"the end of this prompt goes unread, it is too long for the model: {text!r}" for text in texts]
    others = {word: meant for request in requests for word, meant in read_as(request, draw.model).items()}
    remarks += [f"{word!r} is read as {meant!r}" for word, meant in others.items()]
    for remark in remarks:
        console.remark(remark)
    return remarks


def _draw(
    draw: Generator, requests: list[Request], origin: Origin | None, out: Path, console: Console, keep: bool
) -> tuple[list[Image], dict[str, Any]]:
    """Draw, and write every picture as soon as it is finished.

    Returns the pictures if they are to be kept, and what `--json` tells of them.
    """
    from undiffuse.generation.again import copies
    from undiffuse.generation.output import write_picture
    from undiffuse.generation.request import PICTURES

    wanted = slice(None)
    if origin is not None and draw.batch == origin.batch:
        requests, wanted = copies(requests[0], origin), slice(origin.position, origin.position + 1)
    told: list[dict[str, Any]] = []
    images: list[Image] = []
    seconds = 0.0
    with console.progress("drawing") as bar:
        for step in draw.stream(*requests, keep=False):
            bar(step.index + 1, step.steps)
            for image, one in list(zip(step.images, step.pictures, strict=False))[wanted]:
                path = write_picture(image, out, str(one.seed))
                console.say(str(path))
                told.append({"path": str(path), **one.model_dump(mode="json", exclude=set(PICTURES))})
                if keep:
                    images.append(image)
            seconds = sum(result.seconds for result in step.results)
    console.remark(f"{len(told)} pictures in {seconds:.1f} s" if len(told) > 1 else f"{seconds:.1f} s")
    return images, {"pictures": told, "seconds": seconds}


def _write_sheet(images: list[Image], out: Path, console: Console) -> str:
    from undiffuse.core.pictures import grid_image
    from undiffuse.generation.output import write_picture

    path = str(write_picture(grid_image(images), out, "grid"))
    console.say(path)
    return path


def _compare(draw: Generator, image: Image, request: Request, path: Path, console: Console) -> bool:
    """Say whether the picture came out the same as the one that it was drawn again from, and if not, why."""
    from undiffuse.generation.again import changed, furthest
    from undiffuse.generation.output import read_origin

    by, before = furthest(image, path), read_origin(path)
    why = "it was drawn by another program"
    if before is not None:
        why = changed(before, draw.origin_of(request, before.batch, before.position))
    if by == 0:
        console.remark(f"the same pixels as {path}")
    else:
        how = "by its size" if by is None else f"by up to {by} of 255"
        console.remark(f"differs from {path} {how}" + (f" ({why})" if why else ""))
    return by == 0
