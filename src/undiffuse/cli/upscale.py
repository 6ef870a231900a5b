"""`undiffuse upscale`: a small picture enlarged."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from undiffuse.cli.console import Console
from undiffuse.cli.drawing import Means, Order, carry_out, scales, sides
from undiffuse.cli.options import (
    Batch,
    ClipSkip,
    Count,
    Device,
    Embedding,
    Grid,
    Guidance,
    Json,
    Label,
    Lora,
    LoraDir,
    Model,
    Negative,
    NoiseLevel,
    Out,
    Precision,
    Scale,
    Seed,
    Seeds,
    Size,
    Solver,
    Spacing,
    Steps,
    Vae,
)


def command(
    small: Annotated[Path, typer.Argument(help="Picture to enlarge, as often as the model learned it.")],
    prompts: Annotated[list[str] | None, typer.Argument(help="What it shows; several prompts give several pictures.")] = None,
    model: Model = None,
    noise_level: NoiseLevel = None,
    vae: Vae = None,
    lora: Lora = None,
    lora_dir: LoraDir = None,
    embedding: Embedding = None,
    negative: Negative = None,
    clip_skip: ClipSkip = None,
    label: Label = None,
    steps: Steps = None,
    guidance: Guidance = None,
    scale: Scale = None,
    solver: Solver = None,
    spacing: Spacing = None,
    seed: Seed = None,
    seeds: Seeds = None,
    count: Count = None,
    size: Size = None,
    grid: Grid = False,
    out: Out = Path("out"),
    batch: Batch = None,
    device: Device = None,
    precision: Precision = None,
    json: Json = False,
) -> None:
    """Enlarge a small picture, with a model that learned to, for instance Stable Diffusion's x4 upscaler."""
    order = Order(
        prompts or [],
        pictures={"small": small},
        fields={
            "noise_level": noise_level,
            "negative": negative,
            "clip_skip": clip_skip,
            "label": label,
            "steps": steps,
            "guidance": guidance,
            "solver": solver,
            "spacing": spacing,
            "seed": seed,
            "seeds": seeds,
            "count": count,
            **sides(size),
            **scales(scale),
        },
        needs=("small",),
    )
    means = Means(model, device, precision, batch, tuple(lora or ()), tuple(embedding or ()), vae=vae, lora_dir=lora_dir)
    carry_out(order, means, out, grid, Console(json))
