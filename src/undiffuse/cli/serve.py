"""`undiffuse serve`: pictures over HTTP, in three dialects."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from undiffuse.cli.console import Console
from undiffuse.cli.opening import opener
from undiffuse.cli.options import Device, EmbeddingDir, Json, LoraDir, Precision, Refiner
from undiffuse.core.errors import DependencyError, explain

KEY = "UNDIFFUSE_API_KEY"
NEEDED = ("fastapi", "uvicorn", "python_multipart")
GIB = 2**30


def command(
    model: Annotated[str | None, typer.Option(help="What jobs get that name no model; the embedded one by default.")] = None,
    models: Annotated[Path | None, typer.Option(help="Folder of models that jobs may name.")] = None,
    refiner: Refiner = None,
    lora_dir: LoraDir = None,
    embedding_dir: EmbeddingDir = None,
    host: Annotated[str, typer.Option(help="Address to listen on; by default only this machine can reach it.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=0, max=65535)] = 7860,
    api_key: Annotated[list[str] | None, typer.Option(help=f"Key that opens; {KEY} is the safer way to set one.")] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="Listen beyond this machine without a key.")] = False,
    cors: Annotated[list[str] | None, typer.Option(help="Origin whose pages may use it; none by default.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for jobs and pictures.")] = Path("served"),
    batch: Annotated[int, typer.Option(help="Pictures that share a call of the network, at most.", min=1)] = 8,
    memory: Annotated[float | None, typer.Option(help="GiB of weights held at once; no limit by default.", min=0)] = None,
    queue: Annotated[int | None, typer.Option(help="Unfinished jobs, at most; 64 by default.")] = None,
    max_count: Annotated[int | None, typer.Option(help="Pictures of a job; 16 by default.")] = None,
    max_steps: Annotated[int | None, typer.Option(help="Steps of a picture; 150 by default.")] = None,
    max_side: Annotated[int | None, typer.Option(help="Pixels of a side; 2048 by default.")] = None,
    timeout: Annotated[float | None, typer.Option(help="Seconds of a job, from its arrival; 1800 by default.")] = None,
    device: Device = None,
    precision: Precision = None,
    json: Json = False,
) -> None:
    """Serve pictures over HTTP: our own /api, OpenAI's /v1/images and AUTOMATIC1111's /sdapi/v1. Ctrl-C stops it."""
    if not all(map(find_spec, NEEDED)):
        remedy = "pip install 'undiffuse[serve]'"
        raise DependencyError(explain("the server's packages are not installed", f"{', '.join(NEEDED)} are needed", remedy))
    from undiffuse.checkpoints.lora_folder import LoraFolder
    from undiffuse.serving.desk import Desk
    from undiffuse.serving.jobs import Jobs
    from undiffuse.serving.limits import Limits
    from undiffuse.serving.models import Models
    from undiffuse.serving.run import Server, door_of, listen

    console = Console(json)
    keys = tuple(api_key or ()) + tuple(key for key in (os.environ.get(KEY),) if key)
    door = door_of(host, keys, tuple(cors or ()), insecure)
    told = _given(queue=queue, count=max_count, steps=max_steps, side=max_side, seconds=timeout)
    limits = Limits.parse(told, "limits")

    opened = opener(console.remark, device, precision, lora_dir, embedding_dir, refiner)
    shelf = Models(model, models, float("inf") if memory is None else memory * GIB, opened, refiner)
    loras = None if lora_dir is None else LoraFolder(lora_dir)
    socket = listen(host, port)
    port = socket.getsockname()[1]
    desk = Desk(Jobs(out), shelf, limits, batch, loras)
    console.say(f"http://{host}:{port}  {', '.join(shelf.names)}  ({'with' if keys else 'no'} key)")
    console.say(f"documentation at http://{host}:{port}/docs; pictures in {out}")
    console.result({"host": host, "port": port, "models": list(shelf.names), "out": str(out), "key": bool(keys)})
    Server(desk, door, socket).serve_until_stopped()


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
