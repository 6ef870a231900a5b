"""`undiffuse generate`: words into pictures."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from undiffuse.cli.console import Console
from undiffuse.cli.options import Device, Json, Model, Out, Precision
from undiffuse.core.errors import DataError, UsageError, explain

if TYPE_CHECKING:
    from PIL.Image import Image

    from undiffuse.generation.generator import Generator
    from undiffuse.generation.output import Origin
    from undiffuse.generation.request import Request

STANDARD_INPUT = "-"
AT_ONCE = 4


def command(
    prompts: Annotated[list[str] | None, typer.Argument(help="What to show; several prompts give several pictures.")] = None,
    prompts_file: Annotated[str | None, typer.Option(help="File with one prompt a line; - reads standard input.")] = None,
    again: Annotated[Path | None, typer.Option("--from", help="Draw again what this PNG tells; options change it.")] = None,
    model: Model = None,
    negative: Annotated[str | None, typer.Option(help="What to steer away from.")] = None,
    label: Annotated[str | None, typer.Option(help="A class name, for models that learned classes.")] = None,
    steps: Annotated[int | None, typer.Option(help="1 to 1000.")] = None,
    guidance: Annotated[float | None, typer.Option(help="Strength of the words; 1 is off.")] = None,
    solver: Annotated[str | None, typer.Option(help='Any spelling: dpmpp_2m, "Euler a", "DPM++ 2M Karras".')] = None,
    spacing: Annotated[str | None, typer.Option(help="trailing, leading, linspace, karras, exponential.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of the first picture; -1 is random.")] = None,
    count: Annotated[int | None, typer.Option(help="Pictures a prompt, with seeds SEED, SEED + 1, ...")] = None,
    size: Annotated[str | None, typer.Option(help="128 or 192x128; the model's own when left out.")] = None,
    init: Annotated[Path | None, typer.Option(help="Picture to start from.")] = None,
    strength: Annotated[float | None, typer.Option(help="How far to leave it, 0 to 1.")] = None,
    grid: Annotated[bool, typer.Option("--grid", help="Also write all pictures as one sheet.")] = False,
    out: Out = Path("out"),
    batch: Annotated[int | None, typer.Option(help=f"Pictures at once, at most; {AT_ONCE} when left out.", min=1)] = None,
    device: Device = None,
    precision: Precision = None,
    json: Json = False,
) -> None:
    """Turn words into pictures, or draw a picture again from what its PNG tells."""
    from undiffuse.generation.output import open_folder, read_origin

    console = Console(json)
    asked = {
        "negative": negative,
        "label": label,
        "steps": steps,
        "guidance": guidance,
        "solver": solver,
        "spacing": spacing,
        "seed": seed,
        "count": count,
        "strength": strength,
    }
    changes = {name: value for name, value in asked.items() if value is not None} | _sides(size)
    words = _prompts(prompts, prompts_file)
    if not (words or label or again or model):
        raise _nothing_named()
    requests = _requests(words, again, init, changes)
    open_folder(out)
    same = again is not None and not words and not changes
    origin = read_origin(again) if again is not None and same and not (batch or device or precision) else None
    draw = _generator(model, device, precision, batch, origin, console)
    if not (words or label or again) and draw.model.conditioner.fields:
        raise _nothing_named()
    remarks = _remarks(draw, requests, console)
    images, found = _draw(draw, requests, origin, out, console)
    found |= {"remarks": remarks, "model": draw.origin.model, "device": draw.origin.device, "precision": draw.origin.precision}
    if grid:
        found["sheet"] = _write_sheet(images, out, console)
    if again is not None and same:
        found["same"] = _compare(draw, images[0], again, console)
    console.result(found)


def _nothing_named() -> UsageError:
    return UsageError(explain("nothing to draw was named", "a prompt, --label, --prompts-file or --from is needed"))


def _prompts(prompts: list[str] | None, file: str | None) -> list[str]:
    if file is None:
        return prompts or []
    needed = "a text file with one prompt a line is needed"
    try:
        text = sys.stdin.read() if file == STANDARD_INPUT else Path(file).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UsageError(explain(f"{file} cannot be read ({error.strerror})", needed, "check the path")) from None
    except UnicodeDecodeError:
        raise UsageError(explain(f"{file} is not text in UTF-8", needed)) from None
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise UsageError(explain(f"there is no prompt in {file}", needed))
    return [*(prompts or []), *lines]


def _sides(size: str | None) -> dict[str, int]:
    if size is None:
        return {}
    sides = re.fullmatch(r"(\d+)(?:[xX](\d+))?", size)
    if sides is None:
        raise UsageError(explain(f"--size {size}", "a side or width x height in pixels", "for instance --size 192x128"))
    return {"width": int(sides[1]), "height": int(sides[2] or sides[1])}


def _requests(words: list[str], again: Path | None, init: Path | None, changes: dict[str, Any]) -> list[Request]:
    """One request a prompt; without a prompt the one that the PNG tells, or one that names a class or nothing."""
    from undiffuse.generation.output import read_request
    from undiffuse.generation.request import Request

    image = _picture(init) if init is not None else None
    base = Request() if again is None else read_request(again, image, **changes)
    if image is not None:
        changes = {**changes, "image": image}
    elif "strength" in changes and base.image is None:
        raise UsageError(explain("--strength without --init", "a picture to start from is needed", "add --init picture.png"))
    return [base.replace(prompt=prompt, **changes) for prompt in words] or [base.replace(**changes)]


def _picture(path: Path) -> Image:
    from undiffuse.data.decoding import decode

    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(explain(f"{path} cannot be read ({error.strerror})", "a picture is needed", "check the path")) from None
    return decode(data, str(path)).image


def _generator(
    model: str | None, device: str | None, precision: str | None, batch: int | None, origin: Origin | None, console: Console
) -> Generator:
    """A generator as the options say; for a picture that is drawn again as it was then, if that device is here."""
    from undiffuse.checkpoints.api import load_model
    from undiffuse.generation.again import is_here
    from undiffuse.generation.generator import Generator

    if origin is not None and is_here(origin):
        device, precision, batch = origin.device, origin.precision, origin.batch
    return Generator(load_model(model), device=device, precision=precision, batch=batch or AT_ONCE, tell=console.remark)


def _remarks(draw: Generator, requests: list[Request], console: Console) -> list[str]:
    from undiffuse.generation.sample import unread

    texts = dict.fromkeys(text for request in requests for text in unread(request, draw.model))
    remarks = [f"the end of this prompt goes unread, it is too long for the model: {text!r}" for text in texts]
    for remark in remarks:
        console.remark(remark)
    return remarks


def _draw(
    draw: Generator, requests: list[Request], origin: Origin | None, out: Path, console: Console
) -> tuple[list[Image], dict[str, Any]]:
    """Draw, and write every picture as soon as it is finished; the pictures, and what `--json` tells of them."""
    from undiffuse.generation.again import copies
    from undiffuse.generation.output import write_picture

    wanted = slice(None)
    if origin is not None and draw.batch == origin.batch:
        requests, wanted = copies(requests[0], origin), slice(origin.position, origin.position + 1)
    told: list[dict[str, Any]] = []
    images: list[Image] = []
    seconds = 0.0
    with console.progress("drawing") as bar:
        for step in draw.stream(*requests):
            bar(step.index + 1, step.steps)
            for image, one in list(zip(step.images, step.pictures, strict=False))[wanted]:
                path = write_picture(image, out, str(one.seed))
                console.say(str(path))
                told.append({"path": str(path), **one.model_dump(mode="json", exclude={"image"})})
                images.append(image)
            seconds = sum(result.seconds for result in step.results)
    console.remark(f"{len(images)} pictures in {seconds:.1f} s" if len(images) > 1 else f"{seconds:.1f} s")
    return images, {"pictures": told, "seconds": seconds}


def _write_sheet(images: list[Image], out: Path, console: Console) -> str:
    from undiffuse.core.pictures import grid_image
    from undiffuse.generation.output import write_picture

    path = str(write_picture(grid_image(images), out, "grid"))
    console.say(path)
    return path


def _compare(draw: Generator, image: Image, path: Path, console: Console) -> bool:
    """Say whether the picture came out the same as the one that it was drawn again from, and if not, why."""
    from dataclasses import replace

    from undiffuse.generation.again import changed, furthest
    from undiffuse.generation.output import read_origin

    by, before = furthest(image, path), read_origin(path)
    now = replace(draw.origin, batch=before.batch, position=before.position) if before is not None else draw.origin
    why = "it was drawn by another program" if before is None else changed(before, now)
    if by == 0:
        console.remark(f"the same pixels as {path}")
    else:
        how = "by its size" if by is None else f"by up to {by} of 255"
        console.remark(f"differs from {path} {how}" + (f" ({why})" if why else ""))
    return by == 0
