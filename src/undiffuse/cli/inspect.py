"""`undiffuse inspect`: what a model file or folder holds, from its headers alone."""

from __future__ import annotations

import json as json_text
import math
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from undiffuse.checkpoints.detect import detect, other_kind
from undiffuse.checkpoints.headers import read_header, shapes_of
from undiffuse.cli.console import Console
from undiffuse.cli.options import Json
from undiffuse.core.errors import CheckpointError, UnknownFormat, explain

SPEC = "spec.json"
DOWN = (".lora_down.weight", ".lora_A.weight", ".lora.down.weight")  # of a LoRA's terms: their smaller side is the rank
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
    shapes = shapes_of(header)
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
        **_kind(shapes, metadata),
        "metadata": metadata,
    }


def _kind(shapes: dict[str, tuple[int, ...]], metadata: dict[str, str]) -> dict[str, Any]:
    """What a file that others wrote is, and what stands in its way; nothing of a part of our own models."""
    if "undiffuse" in metadata:
        return {}
    try:
        found = detect(shapes, metadata)
    except UnknownFormat as error:
        rank = next((min(shape[:2]) for name, shape in shapes.items() if name.endswith(DOWN) and len(shape) > 1), None)
        what = f"{other_kind(shapes)} of rank {rank}" if rank else other_kind(shapes)
        return {"kind": what, "readable": False, "remedy": str(error)}
    remedy = "" if found.prediction else "it must be told: undiffuse convert FILE --to native --prediction v --out FOLDER"
    return {
        "kind": found.words,
        "family": found.family,
        "prediction": found.prediction,
        "inpainting": found.inpainting,
        "ema": found.ema,
        "readable": True,
        "remedy": remedy,
    }


def _lines(found: dict[str, Any]) -> list[str]:
    lines = [f"  {line}" for line in _spec_lines(found["spec"])] if "spec" in found else []
    for name, file in found["files"].items():
        types = ", ".join(file["types"])
        if "kind" in file:
            lines.append(f"  {file['kind']}{', averaged weights inside' if file.get('ema') else ''}")
            lines += [f"    {file['remedy']}"] if file["remedy"] else []
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
