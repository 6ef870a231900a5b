"""`undiffuse inspect`: what a model file or folder holds, from its headers alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from undiffuse.checkpoints.describe import SPEC, describe_file, describe_folder
from undiffuse.checkpoints.headers import PICKLES
from undiffuse.cli.console import Console
from undiffuse.cli.options import Json
from undiffuse.core.errors import CheckpointError, UsageError, explain

EMBEDDED = Path(__file__).parent.parent / "weights" / "default"
SHOWN_FAULTS = 20


def command(
    path: Annotated[
        Path | None, typer.Argument(help="Model file, or folder of ours or of diffusers; the embedded model when left out.")
    ] = None,
    hash: Annotated[
        bool, typer.Option("--hash", help="Also the hashes that others name the file by; reads all of it.")
    ] = False,
    check: Annotated[bool, typer.Option("--check", help="Also look for NaN, infinity and empty tensors; reads all.")] = False,
    json: Json = False,
) -> None:
    """Tell what a model file or folder holds; reads headers only, unless told otherwise."""
    console = Console(json)
    path = _place(path)
    found = describe_folder(path) if path.is_dir() else {"files": {path.name: describe_file(path)}}
    found = {"path": str(path), **found}
    for name, file in found["files"].items():
        place = path / name if path.is_dir() else path
        file |= _hashes(place) if hash else {}
        file |= _faults(place) if check else {}
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


def _hashes(path: Path) -> dict[str, Any]:
    from undiffuse.checkpoints.file_hashes import hashes_of

    return {"hashes": hashes_of(path)}


def _faults(path: Path) -> dict[str, Any]:
    if path.suffix.lower() in PICKLES:
        given = f"--check with the pickle {path}"
        raise UsageError(explain(given, "tensors of .safetensors files are looked at", "convert it first"))
    from undiffuse.checkpoints.scan import faults

    return {"faults": [str(fault) for fault in faults(path)]}


def _lines(found: dict[str, Any]) -> list[str]:
    lines = [f"  {line}" for line in _spec_lines(found["spec"])] if "spec" in found else []
    if "pipeline" in found:
        parts = ", ".join(
            f"{name}: {told[1]}" for name, told in found["pipeline"].items() if isinstance(told, list) and told[1]
        )
        lines.append(f"  {found['pipeline'].get('_class_name', 'a pipeline')} of diffusers ({parts})")
        lines += [f"  {found['channels']} channels come in"] if found["channels"] else []
        lines += [f"    {line}" for line in found["aside"]]
    for name, file in found["files"].items():
        types = ", ".join(file["types"])
        if "kind" in file:
            lines.append(f"  {file['kind']}{', averaged weights inside' if file.get('ema') else ''}")
            lines += [f"    {line}" for line in (*file.get("aside", ()), file["remedy"]) if line]
        counts = f"{file['parameters'] / 1e6:.2f} M numbers in {file['tensors']} tensors"
        lines.append(f"  {name}: {counts}, {types}, {file['bytes'] / 1e6:.1f} MB")
        lines += [f"    {part}: {count / 1e6:.2f} M" for part, count in file["parts"].items() if len(file["parts"]) > 1]
        lines += [f"    {key} = {_short(value)}" for key, value in file["metadata"].items()]
        lines += [f"    {key} {value}" for key, value in file.get("hashes", {}).items()]
        lines += _fault_lines(file["faults"]) if "faults" in file else []
    return lines


def _fault_lines(faults: list[str]) -> list[str]:
    if not faults:
        return ["    no NaN, no infinity, no empty matrix"]
    more = len(faults) - SHOWN_FAULTS
    return [f"    {fault}" for fault in faults[:SHOWN_FAULTS]] + ([f"    and {more} more"] if more > 0 else [])


def _spec_lines(spec: dict[str, Any]) -> list[str]:
    if "denoiser" not in spec:
        latent = spec.get("autoencoder", {}).get("latent_channels", "?")
        return [f"an autoencoder alone, {latent} latent channels"]
    conditioners = ", ".join(part.get("kind", "?") for part in spec.get("conditioners", ())) or "nothing"
    schedule = spec.get("schedule", {}).get("kind", "?")
    name, size, prediction = (spec.get(key, "?") for key in ("name", "size", "prediction"))
    lines = [f"{name}: {size} pixels, predicts {prediction} on schedule {schedule}", f"conditioned on {conditioners}"]
    usual = spec["usual"] if isinstance(spec.get("usual"), dict) else {}
    told = ", ".join(f"{name} = {value}" for name, value in usual.items() if value is not None)
    return [*lines, f"usually drawn with {told}"] if told else lines


def _short(value: str, width: int = 80) -> str:
    return value if len(value) <= width else value[: width - 1] + "…"
