"""`undiffuse generate`: words into pictures."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from undiffuse.cli.console import Console
from undiffuse.cli.drawing import Means, Order, boxes, carry_out, hires, nothing_named, scales, sides, variations
from undiffuse.cli.options import (
    REFINE_AT,
    Batch,
    Box,
    ClipSkip,
    Count,
    Depth,
    Device,
    Embedding,
    Engine,
    Ensd,
    Fill,
    Grammar,
    Grid,
    Guidance,
    HiresSteps,
    HiresStrength,
    HiresUpscaler,
    Json,
    Label,
    Lora,
    LoraDir,
    Memory,
    Model,
    Negative,
    NoiseLevel,
    Out,
    Precision,
    RefineAt,
    Refiner,
    Scale,
    Scaling,
    Seed,
    Seeds,
    Size,
    Sketch,
    Solver,
    Spacing,
    Steps,
    Strength,
    Vae,
    Variation,
)
from undiffuse.core.errors import UsageError, explain

STANDARD_INPUT = "-"


def command(
    prompts: Annotated[list[str] | None, typer.Argument(help="What to show; several prompts give several pictures.")] = None,
    prompts_file: Annotated[str | None, typer.Option(help="File with one prompt a line; - reads standard input.")] = None,
    again: Annotated[Path | None, typer.Option("--from", help="Draw again what this PNG tells; options change it.")] = None,
    model: Model = None,
    vae: Vae = None,
    refiner: Refiner = None,
    refine_at: RefineAt = None,
    lora: Lora = None,
    lora_dir: LoraDir = None,
    embedding: Embedding = None,
    negative: Negative = None,
    grammar: Grammar = None,
    clip_skip: ClipSkip = None,
    label: Label = None,
    steps: Steps = None,
    guidance: Guidance = None,
    scale: Scale = None,
    solver: Solver = None,
    spacing: Spacing = None,
    seed: Seed = None,
    seeds: Seeds = None,
    variation: Variation = None,
    ensd: Ensd = None,
    count: Count = None,
    size: Size = None,
    init: Annotated[Path | None, typer.Option(help="Picture to start from.")] = None,
    strength: Strength = None,
    sketch: Sketch = None,
    mask: Annotated[Path | None, typer.Option(help="Where --init is made anew: white, or opaque.")] = None,
    fill: Fill = None,
    layout: Annotated[Path | None, typer.Option(help="Map of classes, for models that learned them.")] = None,
    small: Annotated[Path | None, typer.Option(help="Small picture to enlarge.")] = None,
    noise_level: NoiseLevel = None,
    box: Box = None,
    like: Annotated[Path | None, typer.Option(help="Picture to resemble.")] = None,
    depth: Depth = None,
    scaling: Scaling = None,
    hires_strength: HiresStrength = None,
    hires_steps: HiresSteps = None,
    hires_upscaler: HiresUpscaler = None,
    grid: Grid = False,
    out: Out = Path("out"),
    batch: Batch = None,
    device: Device = None,
    precision: Precision = None,
    engine: Engine = None,
    memory: Memory = None,
    json: Json = False,
) -> None:
    """Turn words into pictures, or draw a picture again from what its PNG tells.

    A picture that was drawn from others is drawn again when each of them is passed by its option.
    """
    words = _prompts(prompts, prompts_file)
    contexts = {"layout": layout, "small": small, "like": like, "depth": depth}
    named = any((words, label, again, mask, box, *contexts.values()))
    if not (named or model):
        raise nothing_named()
    order = Order(
        words,
        again,
        {"image": init, "mask": mask, **contexts},
        {
            "negative": negative,
            "clip_skip": clip_skip,
            "label": label,
            "steps": steps,
            "guidance": guidance,
            "solver": solver,
            "spacing": spacing,
            "seed": seed,
            "seeds": seeds,
            "ensd": ensd,
            "count": count,
            "strength": strength,
            "sketch": sketch,
            "fill": fill,
            "noise_level": noise_level,
            "refine_at": refine_at,
            "context": {"grammar": grammar} if grammar else None,
            **sides(size),
            **scales(scale),
            **variations(variation),
            **boxes(box),
            **hires(scaling, hires_strength, hires_steps, hires_upscaler),
        },
        usual={"refine_at": REFINE_AT} if refiner else {},
        needs=() if again else tuple(name for name, path in contexts.items() if path),
        named=named,
    )
    adapters = (tuple(lora or ()), tuple(embedding or ()))
    means = Means(model, device, precision, batch, *adapters, engine, memory, vae, refiner, lora_dir=lora_dir)
    carry_out(order, means, out, grid, Console(json))


def _prompts(prompts: list[str] | None, file: str | None) -> list[str]:
    if file is None:
        return prompts or []
    needed = "a text file with one prompt a line is needed"
    try:
        text = sys.stdin.read() if file == STANDARD_INPUT else Path(file).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UsageError(explain(f"{file} cannot be read ({error.strerror})", needed, "check the path")) from None
    except UnicodeDecodeError:
        raise UsageError(explain(f"{file} is not text in UTF-8", needed)) from None
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise UsageError(explain(f"there is no prompt in {file}", needed))
    return [*(prompts or []), *lines]
