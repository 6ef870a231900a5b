"""`undiffuse convert`: a model, or a LoRA, from one layout into another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from undiffuse.cli.console import Console
from undiffuse.cli.drawing import lora_file
from undiffuse.cli.options import Json, Lora, Vae
from undiffuse.core.errors import CheckpointError, UsageError, explain

LAYOUTS = ("native", "compvis", "diffusers")
LORA_FORMS = ("kohya", "diffusers")
PRECISIONS = ("fp32", "fp16", "bf16")
SUFFIX = ".safetensors"


def command(
    source: Annotated[str, typer.Argument(help="A single file, a diffusers folder, a model of ours, or a LoRA.")],
    to: Annotated[str, typer.Option(help="native, compvis (one file) or diffusers (a folder); of a LoRA kohya or diffusers.")],
    out: Annotated[Path, typer.Option(help="The file or folder to write.")],
    precision: Annotated[str | None, typer.Option(help="fp32, fp16 or bf16; as it is when left out.")] = None,
    prediction: Annotated[str | None, typer.Option(help="eps or v, for files of Stable Diffusion 2.x.")] = None,
    weights: Annotated[str, typer.Option(help="plain, or ema for the averages that some files hold as well.")] = "plain",
    vae: Vae = None,
    lora: Lora = None,
    base: Annotated[str | None, typer.Option(help="Of a LoRA that does not tell: sd1, sd2-base or sdxl-base.")] = None,
    json: Json = False,
) -> None:
    """Write a model in the layout of another program, or in ours; LoRAs beside it become part of its weights.

    Whole or not at all, and with the same numbers to the bit unless another precision is asked for or something is added.
    """
    if _is_lora(Path(source)):
        strange = {"precision": precision, "prediction": prediction, "vae": vae, "lora": lora}
        _convert_lora(Path(source), to, out, base, [name for name, value in strange.items() if value], Console(json))
        return
    if base is not None:
        raise UsageError(explain(f"--base with {source}", "it is for LoRAs that do not tell it", "leave it out"))
    _check(to, out, precision)
    from undiffuse.checkpoints.adapters import add_lora
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
    for text in lora or ():
        add_lora(model, *lora_file(text))
    model.adapters.merge()
    dtype = DTYPES[precision] if precision else None
    if to == "compvis":
        write_single_file(model, out, dtype)
    elif to == "diffusers":
        write_diffusers_folder(model, out, dtype)
    else:
        save_model(model, out, dict.fromkeys(model.parts(), precision or "kept"))
    console.say(f"{out}: {model!r}")
    console.result({"path": str(out), "layout": to, "name": model.spec.name, "prediction": model.spec.prediction})


def _is_lora(path: Path) -> bool:
    """Whether a file is a LoRA, by its header."""
    if not path.is_file():
        return False
    from undiffuse.checkpoints.describe import describe_file

    return "base" in describe_file(path)


def _convert_lora(path: Path, to: str, out: Path, base: str | None, strange: list[str], console: Console) -> None:
    if strange:
        raise UsageError(explain(f"--{strange[0]} with a LoRA", "it is for models", "leave it out"))
    if to not in LORA_FORMS:
        raise UsageError(explain(f"--to {to} with a LoRA", f"allowed are {', '.join(LORA_FORMS)}"))
    _check_file(out)
    from undiffuse.checkpoints.lora_convert import convert_lora

    convert_lora(path, out, to, base)
    console.say(f"{out}: a LoRA as {to} writes it")
    console.result({"path": str(out), "layout": to})


def _check(to: str, out: Path, precision: str | None) -> None:
    """Refuse at once what cannot be, before gigabytes are read."""
    if to not in LAYOUTS:
        raise UsageError(explain(f"--to {to}", f"allowed are {', '.join(LAYOUTS)}"))
    if precision is not None and precision not in PRECISIONS:
        raise UsageError(explain(f"--precision {precision}", f"allowed are {', '.join(PRECISIONS)}"))
    if to == "compvis":
        _check_file(out)


def _check_file(out: Path) -> None:
    if out.suffix != SUFFIX:
        raise UsageError(explain(f"--out {out}", f"one file is written, its name ends in {SUFFIX}"))
    if out.exists():
        raise CheckpointError(explain(f"{out} is there already", "no file is written over", "name another, or remove it"))
    if not out.absolute().parent.is_dir():
        raise CheckpointError(explain(f"{out.parent} is not there", "the file goes into a folder", "make it first"))
