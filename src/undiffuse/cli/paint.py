"""`undiffuse paint`: a painted map into a picture of what it says (semantic synthesis)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from undiffuse.cli.console import Console
from undiffuse.cli.drawing import Means, Order, carry_out, scales, sides
from undiffuse.cli.options import (
    Batch,
    ClipSkip,
    Count,
    Device,
    Embedding,
    Grid,
    Guidance,
    Json,
    Label,
    Lora,
    LoraDir,
    Model,
    Negative,
    Out,
    Precision,
    Scale,
    Seed,
    Size,
    Solver,
    Spacing,
    Steps,
    Vae,
)
from undiffuse.core.errors import UsageError, explain


def command(
    layout: Annotated[
        Path | None, typer.Argument(help="Map: class indices in a grey or indexed file, or painted colours.")
    ] = None,
    prompts: Annotated[list[str] | None, typer.Argument(help="What to show; several prompts give several pictures.")] = None,
    palette: Annotated[
        bool, typer.Option("--palette", help="List the model's classes with their colours, draw nothing.")
    ] = False,
    model: Model = None,
    vae: Vae = None,
    lora: Lora = None,
    lora_dir: LoraDir = None,
    embedding: Embedding = None,
    negative: Negative = None,
    clip_skip: ClipSkip = None,
    label: Label = None,
    steps: Steps = None,
    guidance: Guidance = None,
    scale: Scale = None,
    solver: Solver = None,
    spacing: Spacing = None,
    seed: Seed = None,
    count: Count = None,
    size: Size = None,
    grid: Grid = False,
    out: Out = Path("out"),
    batch: Batch = None,
    device: Device = None,
    precision: Precision = None,
    json: Json = False,
) -> None:
    """Turn a painted map into a picture, with a model that learned to."""
    console = Console(json)
    if palette:
        _tell_palette(model, console)
        return
    if layout is None:
        raise UsageError(explain("no map was named", "a file with a painted map is needed", "--palette lists the colours"))
    order = Order(
        prompts or [],
        pictures={"layout": layout},
        fields={
            "negative": negative,
            "clip_skip": clip_skip,
            "label": label,
            "steps": steps,
            "guidance": guidance,
            "solver": solver,
            "spacing": spacing,
            "seed": seed,
            "count": count,
            **sides(size),
            **scales(scale),
        },
        needs=("layout",),
    )
    means = Means(model, device, precision, batch, tuple(lora or ()), tuple(embedding or ()), vae=vae, lora_dir=lora_dir)
    carry_out(order, means, out, grid, console)


def _tell_palette(model: str | None, console: Console) -> None:
    from undiffuse.checkpoints.api import load_model
    from undiffuse.conditioners.maps import MapConditioner
    from undiffuse.conditioners.palette import BLACK, colours, hexadecimal
    from undiffuse.data.annotations import UNSAID

    conditioner = load_model(model).conditioner
    conditioner.require(["layout"])
    classes = next(part.classes for part in conditioner.parts if isinstance(part, MapConditioner))
    found: list[dict[str, Any]] = [
        {"index": index, "class": name, "colour": hexadecimal(colour)}
        for index, (name, colour) in enumerate(zip(classes, colours(classes), strict=True))
    ]
    found.append({"index": UNSAID, "class": None, "colour": hexadecimal(BLACK)})
    for row in found:
        console.say(f"{row['index']:3}  {row['colour']}  {row['class'] or '(nothing is said)'}")
    console.result({"palette": found})
