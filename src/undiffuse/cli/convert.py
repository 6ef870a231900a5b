"""`undiffuse convert`: a model, or a LoRA, from one layout into another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from undiffuse.cli.console import Console
from undiffuse.cli.drawing import lora_file
from undiffuse.cli.options import Json, Vae
from undiffuse.core.errors import CheckpointError, UsageError, explain

LAYOUTS = ("native", "compvis", "diffusers")
LORA_FORMS = ("kohya", "diffusers", "peft")
PRECISIONS = ("fp32", "fp16", "bf16")
SUFFIX = ".safetensors"
BASES = "sd1, sd2-base or sdxl-base"


def command(
    source: Annotated[str, typer.Argument(help="A single file, a diffusers folder, or a model of ours; or a LoRA file.")],
    out: Annotated[Path, typer.Option(help="The file or folder to write.")],
    to: Annotated[str | None, typer.Option(help="native, compvis (one .safetensors file) or diffusers (a folder).")] = None,
    precision: Annotated[str | None, typer.Option(help="fp32, fp16 or bf16; as it is when left out.")] = None,
    prediction: Annotated[str | None, typer.Option(help="eps or v, for files of Stable Diffusion 2.x.")] = None,
    weights: Annotated[str, typer.Option(help="plain, or ema for the averages that some files hold as well.")] = "plain",
    vae: Vae = None,
    lora: Annotated[list[str] | None, typer.Option(help="LoRA to fold into the weights, FILE or FILE:WEIGHT.")] = None,
    base: Annotated[str | None, typer.Option(help=f"What a LoRA was made for, where it does not tell: {BASES}.")] = None,
    json: Json = False,
) -> None:
    """Write a model in the layout of another program, or in ours.

    Whole or not at all, and with the same numbers to the bit unless another precision is asked for, or LoRAs are folded in.
    Without --to a file is compvis and a folder native. A LoRA file is written --to kohya, diffusers or peft.
    """
    from undiffuse.checkpoints.lora_convert import lora_file_of

    console = Console(json)
    if lora_file_of(source) is not None:
        others = {"--precision": precision, "--prediction": prediction, "--vae": vae, "--lora": lora}
        _convert_lora(source, to, out, base, [name for name, value in others.items() if value], console)
        return
    to = to or ("compvis" if out.suffix == SUFFIX else "native")
    _check(to, out, precision, base)
    from undiffuse.checkpoints.adapters import add_lora
    from undiffuse.checkpoints.api import load_model, save_model
    from undiffuse.checkpoints.diffusers_export import write_diffusers_folder
    from undiffuse.checkpoints.single_file import is_single_file, load_single_file, write_single_file
    from undiffuse.checkpoints.vae_files import with_vae
    from undiffuse.core.devices import PRECISIONS as DTYPES

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
    told = {"path": str(out), "layout": to, "name": model.spec.name, "prediction": model.spec.prediction}
    console.result({**told, "loras": list(model.adapters.loras)})


def _convert_lora(source: str, to: str | None, out: Path, base: str | None, others: list[str], console: Console) -> None:
    """Write a LoRA file in another form."""
    from undiffuse.checkpoints.lora_alphas import BESIDE
    from undiffuse.checkpoints.lora_convert import convert_lora

    if others:
        given = f"{' and '.join(others)} with the LoRA {source}"
        raise UsageError(explain(given, "only models have such", "leave it out, or name the model first: MODEL --lora FILE"))
    if to not in LORA_FORMS:
        raise UsageError(explain(f"a LoRA --to {to or 'nothing'}", f"allowed are {', '.join(LORA_FORMS)}"))
    _check_file(out)
    if to == "peft" and (out.parent / BESIDE).exists():
        given = f"{out.parent / BESIDE} is there already"
        raise CheckpointError(explain(given, "no file is written over", "write into another folder"))
    convert_lora(source, out, to, base)
    console.say(str(out))
    console.result({"path": str(out), "layout": to})


def _check(to: str, out: Path, precision: str | None, base: str | None) -> None:
    """Refuse at once what cannot be, before gigabytes are read."""
    if to not in LAYOUTS:
        raise UsageError(explain(f"--to {to}", f"allowed are {', '.join(LAYOUTS)}"))
    if precision is not None and precision not in PRECISIONS:
        raise UsageError(explain(f"--precision {precision}", f"allowed are {', '.join(PRECISIONS)}"))
    if base is not None:
        raise UsageError(explain(f"--base {base} with a model", "it is for LoRA files", "leave it out"))
    if to == "compvis":
        _check_file(out)


def _check_file(out: Path) -> None:
    """Refuse a place where no file can be written."""
    if out.suffix != SUFFIX:
        raise UsageError(explain(f"--out {out}", f"one file is written, its name ends in {SUFFIX}"))
    if out.exists():
        raise CheckpointError(explain(f"{out} is there already", "no file is written over", "name another, or remove it"))
    if not out.absolute().parent.is_dir():
        raise CheckpointError(explain(f"{out.parent} is not there", "the file goes into a folder", "make it first"))
