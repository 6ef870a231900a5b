"""`undiffuse inspect`: what a model file or folder holds, from its headers alone."""

from __future__ import annotations

import json as json_text
import math
import struct
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from undiffuse.cli.console import Console
from undiffuse.cli.options import Json
from undiffuse.core.errors import CheckpointError, UnknownFormat, explain

LONGEST_HEADER = 100_000_000
SPEC = "spec.json"
EMBEDDED = Path(__file__).parent.parent / "weights" / "default"


def command(
    path: Annotated[
        Path | None, typer.Argument(help="Model folder or .safetensors file; the embedded model when left out.")
    ] = None,
    json: Json = False,
) -> None:
    """Tell what a model file or folder holds; reads headers only."""
    console = Console(json)
    path = _place(path)
    found = _folder(path) if path.is_dir() else {"files": {path.name: _file(path)}}
    found = {"path": str(path), **found}
    console.say(str(path))
    for line in _lines(found):
        console.say(line)
    console.result(found)


def _place(path: Path | None) -> Path:
    """The file or folder that is meant: the embedded model for None, for a training run the model in it."""
    if path is None and not EMBEDDED.is_dir():
        given = "this installation carries no default model"
        raise CheckpointError(explain(given, "a model folder or a .safetensors file is needed", "name one"))
    path = path or EMBEDDED
    in_run = path / "model"
    return in_run if not (path / SPEC).exists() and (in_run / SPEC).is_file() else path


def _folder(path: Path) -> dict[str, Any]:
    spec = path / SPEC
    files = sorted(path.glob("*.safetensors"))
    if not spec.is_file() or not files:
        allowed = f"a model folder has {SPEC} and *.safetensors"
        remedy = "name a .safetensors file inside it to see that one"
        raise UnknownFormat(explain(f"{path} is no model folder", allowed, remedy))
    try:
        told = json_text.loads(spec.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(explain(f"{spec} is not valid JSON: {error}", "the file must be whole")) from None
    return {"spec": told, "files": {file.name: _file(file) for file in files}}


def _file(path: Path) -> dict[str, Any]:
    """Counts over the tensors of a file: how many, how many numbers, in which types, under which names."""
    header = read_header(path)
    metadata = header.pop("__metadata__", {})
    numbers: Counter[str] = Counter()
    parts: Counter[str] = Counter()
    for name, tensor in header.items():
        count = math.prod(tensor["shape"])
        numbers[tensor["dtype"]] += count
        parts[name.split(".")[0]] += count
    return {
        "bytes": path.stat().st_size,
        "tensors": len(header),
        "parameters": sum(numbers.values()),
        "types": dict(numbers.most_common()),
        "parts": dict(parts.most_common()),
        "metadata": metadata,
    }


def read_header(path: Path) -> dict[str, Any]:
    """The JSON header of a safetensors file: names, types, shapes and places of its tensors.

    Raises:
        CheckpointError: when the file is missing or cut short.
        UnknownFormat: when it is no safetensors file.
    """
    allowed = "a .safetensors file or a model folder is needed"
    if not path.is_file():
        raise CheckpointError(explain(f"{path} is not there", allowed, "check the path"))
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= length <= min(LONGEST_HEADER, size - 8):
            raise UnknownFormat(explain(f"{path} is no safetensors file", allowed))
        try:
            header = json_text.loads(file.read(length))
            end = max((tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__"), default=0)
        except (ValueError, TypeError, KeyError, AttributeError):
            raise UnknownFormat(explain(f"{path} is no safetensors file", allowed)) from None
    if end != size - 8 - length:
        given = f"{path} holds {size - 8 - length} bytes of tensors"
        raise CheckpointError(explain(given, f"its header tells of {end}", "fetch or write it again"))
    return header


def _lines(found: dict[str, Any]) -> list[str]:
    lines = [f"  {line}" for line in _spec_lines(found["spec"])] if "spec" in found else []
    for name, file in found["files"].items():
        types = ", ".join(file["types"])
        counts = f"{file['parameters'] / 1e6:.2f} M numbers in {file['tensors']} tensors"
        lines.append(f"  {name}: {counts}, {types}, {file['bytes'] / 1e6:.1f} MB")
        lines += [f"    {part}: {count / 1e6:.2f} M" for part, count in file["parts"].items() if len(file["parts"]) > 1]
        lines += [f"    {key} = {_short(value)}" for key, value in file["metadata"].items()]
    return lines


def _spec_lines(spec: dict[str, Any]) -> list[str]:
    if "denoiser" not in spec:
        latent = spec.get("autoencoder", {}).get("latent_channels", "?")
        return [f"an autoencoder alone, {latent} latent channels"]
    conditioners = ", ".join(part.get("kind", "?") for part in spec.get("conditioners", ())) or "nothing"
    schedule = spec.get("schedule", {}).get("kind", "?")
    name, size, prediction = (spec.get(key, "?") for key in ("name", "size", "prediction"))
    return [f"{name}: {size} pixels, predicts {prediction} on schedule {schedule}", f"conditioned on {conditioners}"]


def _short(value: str, width: int = 80) -> str:
    return value if len(value) <= width else value[: width - 1] + "…"
