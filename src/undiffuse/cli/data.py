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
    name: Annotated[str, typer.Argument(help="Which one: emoji.")],
    out: Annotated[Path | None, typer.Option(help="Folder of the data set; data/NAME when left out.")] = None,
    size: Annotated[int, typer.Option(help="Side of the pictures in pixels.")] = 128,
    skins: Annotated[bool, typer.Option("--skins", help="Also draw the skin-tone variants.")] = False,
    json: Json = False,
) -> None:
    """Build a data set from openly licensed pictures."""
    from undiffuse.core.errors import UsageError, explain
    from undiffuse.data.emoji.build import build_emoji

    if name != "emoji":
        raise UsageError(explain(f"unknown data set {name!r}", "there is: emoji"))
    console = Console(json)
    with console.progress("drawing") as bar:
        report = build_emoji(out or Path("data") / name, size=size, skins=skins, progress=bar)
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
