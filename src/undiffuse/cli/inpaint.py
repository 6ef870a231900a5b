"""`undiffuse inpaint`: a part of a picture made anew."""

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
    Fill,
    Grid,
    Guidance,
    Json,
    Label,
    Lora,
    LoraDir,
    Model,
    Negative,
    Out,
    Precision,
    Scale,
    Seed,
    Seeds,
    Size,
    Sketch,
    Solver,
    Spacing,
    Steps,
    Strength,
    Vae,
)

LEARNED = "learned"


def command(
    picture: Annotated[Path, typer.Argument(help="Picture of any size; every byte outside the mask stays as it is.")],
    mask: Annotated[Path, typer.Option(help="Of the same size: white, or opaque, where the picture is made anew.")],
    prompts: Annotated[
        list[str] | None, typer.Argument(help="What to show there; several prompts give several pictures.")
    ] = None,
    fill: Fill = None,
    model: Model = None,
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
    strength: Strength = None,
    sketch: Sketch = None,
    grid: Grid = False,
    out: Out = Path("out"),
    batch: Batch = None,
    device: Device = None,
    precision: Precision = None,
    json: Json = False,
) -> None:
    """Make the masked part of a picture anew.

    Models that learned masks see what is around. Any other fills them too: 'known' holds the rest fixed while it
    draws, 'repaint' goes over every step several times, slower and with better seams.
    """
    order = Order(
        prompts or [],
        pictures={"image": picture, "mask": mask},
        fields={
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
            "strength": strength,
            "sketch": sketch,
            "fill": fill,
            **sides(size),
            **scales(scale),
        },
        needs=("mask",) if fill == LEARNED else (),
    )
    means = Means(model, device, precision, batch, tuple(lora or ()), tuple(embedding or ()), vae=vae, lora_dir=lora_dir)
    carry_out(order, means, out, grid, Console(json))
