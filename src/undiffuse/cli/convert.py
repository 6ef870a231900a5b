"""`undiffuse convert`: a model from one layout into another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from undiffuse.cli.console import Console
from undiffuse.cli.options import Json, Vae
from undiffuse.core.errors import CheckpointError, UsageError, explain

LAYOUTS = ("native", "compvis", "diffusers")
PRECISIONS = ("fp32", "fp16", "bf16")
SUFFIX = ".safetensors"


def command(
    source: Annotated[str, typer.Argument(help="A single file, a diffusers folder, or a model of ours.")],
    to: Annotated[str, typer.Option(help="native, compvis (one .safetensors file) or diffusers (a folder).")],
    out: Annotated[Path, typer.Option(help="The file or folder to write.")],
    precision: Annotated[str | None, typer.Option(help="fp32, fp16 or bf16; as it is when left out.")] = None,
    prediction: Annotated[str | None, typer.Option(help="eps or v, for files of Stable Diffusion 2.x.")] = None,
    weights: Annotated[str, typer.Option(help="plain, or ema for the averages that some files hold as well.")] = "plain",
    vae: Vae = None,
    json: Json = False,
) -> None:
    """Write a model in the layout of another program, or in ours.

    Whole or not at all, and with the same numbers to the bit unless another precision is asked for.
    """
    _check(to, out, precision)
    from undiffuse.checkpoints.api import load_model, save_model
    from undiffuse.checkpoints.diffusers_export import write_diffusers_folder
    from undiffuse.checkpoints.single_file import is_single_file, load_single_file, write_single_file
    from undiffuse.checkpoints.vae_files import with_vae
    from undiffuse.core.devices import PRECISIONS as DTYPES

    console = Console(json)
    if is_single_file(source):
        model = load_single_file(source, prediction, weights)
    elif prediction is not None or weights != "plain":
        given = f"--prediction or --weights with {source}"
        raise UsageError(explain(given, "they are for single files", "leave them out: this one tells both"))
    else:
        model = load_model(source)
    model = model if vae is None else with_vae(model, vae)
    dtype = DTYPES[precision] if precision else None
    if to == "compvis":
        write_single_file(model, out, dtype)
    elif to == "diffusers":
        write_diffusers_folder(model, out, dtype)
    else:
        save_model(model, out, dict.fromkeys(model.parts(), precision or "kept"))
    console.say(f"{out}: {model!r}")
    console.result({"path": str(out), "layout": to, "name": model.spec.name, "prediction": model.spec.prediction})


def _check(to: str, out: Path, precision: str | None) -> None:
    """Refuse at once what cannot be, before gigabytes are read."""
    if to not in LAYOUTS:
        raise UsageError(explain(f"--to {to}", f"allowed are {', '.join(LAYOUTS)}"))
    if precision is not None and precision not in PRECISIONS:
        raise UsageError(explain(f"--precision {precision}", f"allowed are {', '.join(PRECISIONS)}"))
    if to == "compvis" and out.suffix != SUFFIX:
        raise UsageError(explain(f"--out {out}", f"one file is written, its name ends in {SUFFIX}"))
    if to == "compvis" and out.exists():
        raise CheckpointError(explain(f"{out} is there already", "no file is written over", "name another, or remove it"))
    if to == "compvis" and not out.absolute().parent.is_dir():
        raise CheckpointError(explain(f"{out.parent} is not there", "the file goes into a folder", "make it first"))
