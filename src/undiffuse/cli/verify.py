"""`undiffuse verify`: is a picture what it says it is?"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer

from undiffuse.cli.console import Console
from undiffuse.cli.drawing import Means, Order, generator_for, read_requests
from undiffuse.cli.options import Device, Embedding, Json, Lora, LoraDir, Model, Precision, Refiner

DIFFERENT = 8


def command(
    picture: Annotated[Path, typer.Argument(help="A PNG that tells how it was made.")],
    model: Model = None,
    refiner: Refiner = None,
    lora: Lora = None,
    lora_dir: LoraDir = None,
    embedding: Embedding = None,
    init: Annotated[Path | None, typer.Option(help="Picture that it was started from.")] = None,
    mask: Annotated[Path | None, typer.Option(help="Its mask.")] = None,
    layout: Annotated[Path | None, typer.Option(help="Its map of classes.")] = None,
    small: Annotated[Path | None, typer.Option(help="The small picture that it enlarges.")] = None,
    like: Annotated[Path | None, typer.Option(help="The picture that it resembles.")] = None,
    depth: Annotated[Path | None, typer.Option(help="Its depth map.")] = None,
    device: Device = None,
    precision: Precision = None,
    least: Annotated[float | None, typer.Option("--psnr", help="Accept this many dB and more as the same.")] = None,
    json: Json = False,
) -> None:
    """Draw a picture again and tell whether it is the same.

    All that decides it stands in the PNG; where pixels differ, the first cause is told.

    Exit code 0 when it is the same (or near enough, with --psnr), 8 when it is not; 2 to 6 when it cannot be drawn here.
    """
    from undiffuse.explain.verify import verify
    from undiffuse.generation.again import is_here
    from undiffuse.generation.output import read_origin

    console = Console(json)
    pictures = {"image": init, "mask": mask, "layout": layout, "small": small, "like": like, "depth": depth}
    order = Order(again=picture, pictures=pictures)
    requests, _ = read_requests(order)
    before = read_origin(picture)
    means = Means(model, device, precision, None, tuple(lora or ()), tuple(embedding or ()), refiner=refiner, lora_dir=lora_dir)
    if before is not None:
        there = {"device": device or before.device, "precision": precision or before.precision} if is_here(before) else {}
        means = replace(means, batch=before.batch, engine=before.engine, **there)
    draw, _ = generator_for(order, means, False, console)
    found = verify(picture, requests[0], draw, before)
    near = found.same or (least is not None and found.psnr is not None and found.psnr >= least)
    if found.same:
        console.say(f"{picture}: the same pixels")
    else:
        how = "another size" if found.furthest is None else f"by up to {found.furthest} of 255, PSNR {found.psnr:.1f} dB"
        console.say(f"{picture}: {'near enough' if near else 'not the same'}, {how}")
        console.say(f"because of {found.causes[0]}" if found.causes else found.why)
    for cause in found.causes[0 if found.same else 1 :]:
        console.say(f"also {cause}")
    console.result(
        {
            "path": str(picture),
            "same": found.same,
            "accepted": near,
            "furthest": found.furthest,
            "psnr": found.psnr,
            "why": found.why,
            "causes": [asdict(cause) for cause in found.causes],
        }
    )
    raise typer.Exit(0 if near else DIFFERENT)
