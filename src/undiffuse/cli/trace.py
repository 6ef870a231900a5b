"""`undiffuse trace`: a drawing recorded step by step, and two of them side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from undiffuse.cli.console import Console
from undiffuse.cli.drawing import Means, Order, boxes, generator_for, nothing_named, read_requests, scales, sides
from undiffuse.cli.options import (
    Box,
    Depth,
    Device,
    Embedding,
    Fill,
    Grammar,
    Guidance,
    Json,
    Label,
    Lora,
    LoraDir,
    Model,
    Negative,
    NoiseLevel,
    Precision,
    Scale,
    Seed,
    Size,
    Sketch,
    Solver,
    Spacing,
    Steps,
    Strength,
)

DIFFERENT = 8

app = typer.Typer(rich_markup_mode=None, no_args_is_help=True)


@app.callback()
def about() -> None:
    """Record how a picture is drawn, and compare two records.

    'undiffuse trace "a fox"' is short for 'undiffuse trace record "a fox"'.
    """


@app.command("record")
def record(
    prompt: Annotated[str | None, typer.Argument(help="What to show.")] = None,
    again: Annotated[Path | None, typer.Option("--from", help="Draw again what this PNG tells; options change it.")] = None,
    out: Annotated[Path, typer.Option(help="File to write; only another trace is overwritten.")] = Path("run.trace"),
    model: Model = None,
    lora: Lora = None,
    lora_dir: LoraDir = None,
    embedding: Embedding = None,
    negative: Negative = None,
    grammar: Grammar = None,
    label: Label = None,
    steps: Steps = None,
    guidance: Guidance = None,
    scale: Scale = None,
    solver: Solver = None,
    spacing: Spacing = None,
    seed: Seed = None,
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
    device: Device = None,
    precision: Precision = None,
    json: Json = False,
) -> None:
    """Draw one picture and record every step of it: latents, estimates, guidance, attention to each word.

    The picture is the one that 'generate' gives. The file is safetensors and holds the picture too.
    """
    contexts = {"layout": layout, "small": small, "like": like, "depth": depth}
    named = any((prompt, label, again, mask, box, *contexts.values()))
    if not (named or model):
        raise nothing_named()
    order = Order(
        [prompt] if prompt else [],
        again,
        {"image": init, "mask": mask, **contexts},
        {
            "negative": negative,
            "label": label,
            "steps": steps,
            "guidance": guidance,
            "solver": solver,
            "spacing": spacing,
            "seed": seed,
            "strength": strength,
            "sketch": sketch,
            "fill": fill,
            "noise_level": noise_level,
            "context": {"grammar": grammar} if grammar else None,
            **sides(size),
            **scales(scale),
            **boxes(box),
        },
        needs=() if again else tuple(name for name, path in contexts.items() if path),
        named=named,
    )
    means = Means(model, device, precision, None, tuple(lora or ()), tuple(embedding or ()), lora_dir=lora_dir)
    _record(order, means, out, Console(json))


@app.command("diff")
def diff(
    a: Annotated[Path, typer.Argument(help="A trace.")],
    b: Annotated[Path, typer.Argument(help="Another one.")],
    json: Json = False,
) -> None:
    """Tell at which step two recorded drawings part, where, by how much, and why.

    Exit code 0 when both gave the same pixels, 8 when not.
    """
    from undiffuse.explain.compare import compare
    from undiffuse.explain.trace import read_trace

    console = Console(json)
    first, second = read_trace(a), read_trace(b)
    found = compare(first, second)
    for line in _lines(found, len(first), len(second)):
        console.say(line)
    console.result(found.told() | {"steps": [len(first), len(second)]})
    raise typer.Exit(0 if found.same else DIFFERENT)


def _record(order: Order, means: Means, out: Path, console: Console) -> None:
    from undiffuse.explain.recording import record as draw_and_keep
    from undiffuse.explain.trace import check_place, write_trace

    requests, same = read_requests(order)
    check_place(out)
    draw, origin = generator_for(order, means, same, console)
    with console.progress("drawing") as bar:
        trace = draw_and_keep(draw, requests[0], origin, bar)
    path = write_trace(trace, out)
    console.say(str(path))
    said = f", {len(trace.words)} words in {len(trace.layers)} layers" if trace.words else ""
    console.remark(f"{len(trace)} steps{said}, {path.stat().st_size / 1e6:.1f} MB")
    words = [word.text for word in trace.words]
    console.result({"path": str(path), **trace.told, "words": words, "layers": list(trace.layers), "steps": trace.numbers()})


def _lines(found: Any, first: int, second: int) -> list[str]:
    """A comparison for people."""
    if found.parting is None:
        return ["the same in every step and every pixel", *(f"though {cause}" for cause in found.causes)]
    parting = found.parting
    step = min(parting.step + 1, first)
    where = f", {parting.region}" if parting.region is not None else ""
    lines = [f"they part at step {step} of {first} in {NAMES[parting.quantity]}, by {parting.by:.2g} of its size{where}"]
    if parting.layer is not None:
        lines.append(f"first seen in the attention of {parting.layer}")
    lines.append(f"because of {found.cause}" if found.cause else "nothing that they tell explains it: another machine?")
    lines += [f"also {cause}" for cause in found.causes if cause != found.cause]
    if first != second:
        lines.append(f"steps: {first} against {second}")
    if found.visible is not None and found.visible > parting.step:
        lines.append(f"the estimates differ by more than 1 % from step {found.visible + 1} on")
    if found.furthest is None:
        return [*lines, "the pictures have different sizes"]
    apart = "" if found.same else f"differ by up to {found.furthest} of 255, PSNR {found.psnr:.1f} dB"
    by = f"the pictures {apart or 'are the same'}"
    rows = [f"{step + 1:5}  {x:9.2g}  {x0:9.2g}" for step, (x, x0) in enumerate(found.rows)]
    return [*lines, by, *(["", " step          x         x0", *rows] if rows else [])]


NAMES = {
    "level": "the noise level",
    "x": "the noisy latent",
    "unconditional": "the estimate that guidance steers away from",
    "conditional": "the estimate that follows the words",
    "x0": "the estimate after guidance",
    "picture": "the decoded picture",
}
