"""`undiffuse data`: build and check data sets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from undiffuse.cli.console import Console
from undiffuse.cli.options import Json

app = typer.Typer(rich_markup_mode=None, no_args_is_help=True)


@app.command()
def build(
    name: Annotated[str, typer.Argument(help="Which one: emoji, or scenes composed from it.")],
    out: Annotated[Path | None, typer.Option(help="Folder of the data set; data/NAME when left out.")] = None,
    size: Annotated[int, typer.Option(help="Side of the pictures in pixels.")] = 128,
    skins: Annotated[bool, typer.Option("--skins", help="emoji: also draw the skin-tone variants.")] = False,
    source: Annotated[Path, typer.Option("--from", help="scenes: folder of the emoji data set.")] = Path("data/emoji"),
    count: Annotated[int, typer.Option(help="scenes: how many.", min=1)] = 8000,
    seed: Annotated[int, typer.Option(help="scenes: another seed gives other scenes.")] = 0,
    json: Json = False,
) -> None:
    """Build a data set from openly licensed pictures.

    emoji: about 1,440 things in eight styles, as cut-outs with captions. scenes: one to four of these things on a ground
    under a sky, with captions that tell what stands where, a semantic map and boxes for every picture.
    """
    from undiffuse.core.errors import UsageError, explain
    from undiffuse.data.emoji.build import build_emoji
    from undiffuse.data.scenes.build import build_scenes

    if name not in ("emoji", "scenes"):
        raise UsageError(explain(f"unknown data set {name!r}", "there are: emoji, scenes"))
    console = Console(json)
    out = out or Path("data") / name
    with console.progress("drawing" if name == "emoji" else "composing") as bar:
        if name == "emoji":
            report = build_emoji(out, size=size, skins=skins, progress=bar)
        else:
            report = build_scenes(out, source, count=count, size=size, seed=seed, progress=bar)
    for line in report.lines():
        console.say(line)
    console.result(report.to_dict())


@app.command()
def check(
    path: Annotated[Path, typer.Argument(help="Data set: a folder or tar shards.")],
    size: Annotated[int, typer.Option(help="Side in pixels that you want to train at.")] = 128,
    json: Json = False,
) -> None:
    """Tell what a data set holds, what is wrong with it and what to do about it."""
    from undiffuse.data.check import check_dataset

    console = Console(json)
    with console.progress("reading") as bar:
        report = check_dataset(path, size, progress=bar)
    for line in report.lines():
        console.say(line)
    console.result(report.to_dict())
