"""`undiffuse generate`: words into pictures."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from undiffuse.cli.console import Console
from undiffuse.cli.options import Device, Json, Model, Out, Precision
from undiffuse.core.errors import UsageError, explain

if TYPE_CHECKING:
    from PIL.Image import Image

    from undiffuse.generation.generator import Generator, Result
    from undiffuse.generation.request import Request

STANDARD_INPUT = "-"


def command(
    prompts: Annotated[list[str] | None, typer.Argument(help="What to show; several prompts give several pictures.")] = None,
    prompts_file: Annotated[str | None, typer.Option(help="File with one prompt a line; - reads standard input.")] = None,
    again: Annotated[Path | None, typer.Option("--from", help="Draw again what this PNG tells; other options change it.")] = None,
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
    batch: Annotated[int, typer.Option(help="Pictures at once, at most.", min=1)] = 4,
    device: Device = None,
    precision: Precision = None,
    json: Json = False,
) -> None:
    """Turn words into pictures, or draw a picture again from what its PNG tells."""
    from undiffuse.checkpoints.api import load_model
    from undiffuse.generation.generator import Generator

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
    requests = _requests(_prompts(prompts, prompts_file), again, init, changes)
    draw = Generator(load_model(model), device=device, precision=precision, batch=batch)
    console.remark(repr(draw))
    results = _draw(draw, requests, console)
    files = [path for result in results for path in result.save(out)]
    _tell(results, files, console)
    if grid:
        _write_sheet(results, out, console)
    if again is not None and not changes and not prompts and not prompts_file:
        _compare(results[0].images[0], again, console)


def _prompts(prompts: list[str] | None, file: str | None) -> list[str]:
    lines: list[str] = []
    if file is not None:
        text = sys.stdin.read() if file == STANDARD_INPUT else Path(file).read_text(encoding="utf-8")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
    return [*(prompts or []), *lines]


def _sides(size: str | None) -> dict[str, int]:
    if size is None:
        return {}
    width, _, height = size.lower().partition("x")
    if not width.isdecimal() or not (height or width).isdecimal():
        raise UsageError(explain(f"--size {size}", "a side or width x height in pixels", "for instance --size 192x128"))
    return {"width": int(width), "height": int(height or width)}


def _requests(prompts: list[str], again: Path | None, init: Path | None, changes: dict[str, Any]) -> list[Request]:
    """One request a prompt; without a prompt the one that the PNG tells, or one that names a class."""
    from undiffuse.data.decoding import decode
    from undiffuse.generation.output import read_request
    from undiffuse.generation.request import Request

    image = decode(init.read_bytes(), str(init)).image if init is not None else None
    if again is not None:
        base = read_request(again, image)
    elif prompts or "label" in changes:
        base = Request()
    else:
        raise UsageError(explain("nothing to draw was named", "a prompt, --label, --prompts-file or --from is needed"))
    if image is not None:
        changes = {**changes, "image": image}
    elif "strength" in changes and base.image is None:
        raise UsageError(explain("--strength without --init", "a picture to start from is needed", "add --init picture.png"))
    return [base.replace(prompt=prompt, **changes) for prompt in prompts] or [base.replace(**changes)]


def _draw(draw: Generator, requests: list[Request], console: Console) -> list[Result]:
    results: list[Result] = []
    with console.progress("drawing") as bar:
        for step in draw.stream(*requests):
            bar(step.index + 1, step.steps)
            results = step.results
    return results


def _tell(results: list[Result], files: list[Path], console: Console) -> None:
    for path in files:
        console.say(str(path))
    singles = [one for result in results for one in result.request.each()]
    pictures = [{"path": str(path), **one.model_dump(mode="json", exclude={"image"})} for path, one in zip(files, singles, strict=True)]
    seconds = sum(result.seconds for result in results)
    console.remark(f"{len(files)} pictures in {seconds:.1f} s" if len(files) > 1 else f"{seconds:.1f} s")
    console.result({"pictures": pictures, "seconds": seconds})


def _write_sheet(results: list[Result], out: Path, console: Console) -> None:
    from undiffuse.core.pictures import grid_image
    from undiffuse.generation.output import write_picture

    console.say(str(write_picture(grid_image([image for result in results for image in result.images]), out, "grid")))


def _compare(image: Image, path: Path, console: Console) -> None:
    """Say whether the picture came out the same as the one that it was drawn again from."""
    from PIL import Image, ImageChops

    with Image.open(path) as before:
        old = before.convert("RGB")
    if old.size != image.size:
        console.remark(f"not the same as {path}: {old.width}x{old.height} there, {image.width}x{image.height} here")
        return
    furthest = max(high for _, high in ImageChops.difference(old, image).getextrema())
    console.remark(f"the same pixels as {path}" if furthest == 0 else f"differs from {path} by up to {furthest} of 255")
