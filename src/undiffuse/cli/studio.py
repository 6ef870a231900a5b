"""`undiffuse studio`: the server, with a page to draw on."""

from __future__ import annotations

import os
import webbrowser
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from undiffuse.cli.console import Console
from undiffuse.cli.opening import opener
from undiffuse.cli.options import Device, EmbeddingDir, Json, LoraDir, Precision, Refiner
from undiffuse.core.errors import DependencyError, explain

if TYPE_CHECKING:
    from fastapi import FastAPI

KEY = "UNDIFFUSE_API_KEY"
NEEDED = ("fastapi", "uvicorn", "python_multipart", "gradio")
GIB = 2**30


def command(
    model: Annotated[str | None, typer.Option(help="The model that is there first; the embedded one by default.")] = None,
    models: Annotated[Path | None, typer.Option(help="Folder of models to choose from.")] = None,
    refiner: Refiner = None,
    lora_dir: LoraDir = None,
    embedding_dir: EmbeddingDir = None,
    gallery: Annotated[Path | None, typer.Option(help="Folder of further pictures for the gallery; never changed.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; by default only this machine can reach it.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=0, max=65535)] = 7860,
    insecure: Annotated[bool, typer.Option("--insecure", help="Listen beyond this machine without a key.")] = False,
    show: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    out: Annotated[Path, typer.Option(help="Folder for jobs and pictures.")] = Path("studio"),
    batch: Annotated[int, typer.Option(help="Pictures that share a call of the network, at most.", min=1)] = 8,
    memory: Annotated[float | None, typer.Option(help="GiB of weights held at once; no limit by default.", min=0)] = None,
    device: Device = None,
    precision: Precision = None,
    json: Json = False,
) -> None:
    """Draw in the browser: from words, from pictures, by brush; previews, gallery, X/Y grids. Ctrl-C stops it.

    The same address has the interfaces of `undiffuse serve`.
    """
    if not all(map(find_spec, NEEDED)):
        remedy = "pip install 'undiffuse[studio]'"
        raise DependencyError(explain("the studio's packages are not installed", f"{', '.join(NEEDED)} are needed", remedy))
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # before it is imported
    os.environ.setdefault("GRADIO_TEMP_DIR", str(out / "shown"))
    from undiffuse.checkpoints.lora_folder import LoraFolder
    from undiffuse.cli.studio_counter import DeskCounter
    from undiffuse.serving.desk import Desk
    from undiffuse.serving.jobs import Jobs
    from undiffuse.serving.models import Models
    from undiffuse.serving.run import Server, door_of, listen
    from undiffuse.studio.mount import mount

    console = Console(json)
    if gallery is not None and not gallery.is_dir():
        from undiffuse.core.errors import UsageError

        raise UsageError(explain(f"no folder {str(gallery)!r}", "--gallery names a folder of pictures", "check the path"))
    keys = tuple(key for key in (os.environ.get(KEY),) if key)
    door = door_of(host, keys, (), insecure)

    loras = None if lora_dir is None else LoraFolder(lora_dir)
    opened = opener(console.remark, device, precision, lora_dir, embedding_dir, refiner)
    shelf = Models(model, models, float("inf") if memory is None else memory * GIB, opened, refiner)
    socket = listen(host, port)
    address = f"http://{host}:{socket.getsockname()[1]}/studio"
    desk = Desk(Jobs(out), shelf, None, batch, loras)

    def more(app: FastAPI) -> FastAPI:
        return mount(app, DeskCounter(desk), out / "pictures", gallery)

    console.say(f"{address}  {', '.join(shelf.names)}  ({'with' if keys else 'no'} key); pictures in {out}")
    console.result({"address": address, "models": list(shelf.names), "out": str(out), "key": bool(keys)})
    server = Server(desk, door, socket, more)
    if show:
        webbrowser.open(address)
    server.serve_until_stopped()
