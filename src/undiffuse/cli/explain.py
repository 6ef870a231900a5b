"""`undiffuse explain`: one page that tells how a picture came to be."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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


def command(
    prompt: Annotated[str | None, typer.Argument(help="What to show.")] = None,
    again: Annotated[Path | None, typer.Option("--from", help="Explain the picture that this PNG tells of.")] = None,
    out: Annotated[Path, typer.Option(help="Page to write; only another such page is overwritten.")] = Path("explain.html"),
    instead: Annotated[str | None, typer.Option(help="Another prompt for the same noise; chosen when left out.")] = None,
    words: Annotated[
        bool | None, typer.Option("--words/--no-words", help="Leave out each word in turn; if quick, when left out.")
    ] = None,
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
    """Show on one page how a picture came to be.

    The page needs no network: noise, latent, every step, what guidance adds, which word lit which pixels, what else the
    same noise could have become. All of it is measured with the model at hand.
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
    _explain(order, means, out, instead, words, Console(json))


def _explain(order: Order, means: Means, out: Path, instead: str | None, words: bool | None, console: Console) -> None:
    from undiffuse.explain.chapters import chapters
    from undiffuse.explain.pages import check_page_place, page_of, write_page
    from undiffuse.explain.story import tell

    requests, same = read_requests(order)
    check_page_place(out)
    draw, before = generator_for(order, means, same, console)
    with console.progress("explaining") as bar:
        story = tell(
            draw,
            requests[0],
            before=before,
            instead=instead,
            words=words,
            said=lambda what, done, total: bar(done, total, what),
        )
    path = write_page(page_of(story), out)
    console.say(str(path))
    console.remark(f"{path.stat().st_size / 1e6:.1f} MB")
    told = [chapter.heading for chapter in chapters(story, 64)]
    console.result({"path": str(path), "bytes": path.stat().st_size, "chapters": told, **story.trace.told})
