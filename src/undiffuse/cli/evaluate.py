"""`undiffuse evaluate`: measure a model on pictures of a data set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from undiffuse.cli.console import Console
from undiffuse.cli.options import Device, Guidance, Json, Model, Precision, Sketch, Steps
from undiffuse.core.errors import DataError, UsageError, explain

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from undiffuse.data.dataset import Dataset, Split
    from undiffuse.data.records import Problem
    from undiffuse.evaluation.health import AutoencoderHealth
    from undiffuse.evaluation.prompts import Prompt
    from undiffuse.evaluation.report import Report
    from undiffuse.generation.generator import Generator
    from undiffuse.generation.request import Request

EMOJI = Path("data/emoji")
SCENES = Path("data/scenes")
BUILT = {EMOJI: "emoji", SCENES: "scenes"}  # sets that 'undiffuse data build' makes
CODEC_SIZE = 128  # an autoencoder alone has no size of its own
SHEET_COLUMNS = 8
SHEET_EACH = 16  # pictures of each kind on a sheet
SHEET_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
NAMED = 3  # how many of the pictures that were left out are named

Data = Annotated[Path, typer.Option(help="Data set: a folder or tar shards.")]
Seed = Annotated[int, typer.Option(help="Of the choice of pictures, and of the drawing.", min=0)]
Batch = Annotated[int, typer.Option(help="Pictures at once, at most.", min=1)]

app = typer.Typer(rich_markup_mode=None, no_args_is_help=True)


@app.command()
def prompts(
    model: Model = None,
    data: Data = EMOJI,
    count: Annotated[int, typer.Option(help="Prompts of each kind: seen pairs, held-out pairs, backgrounds.", min=1)] = 500,
    steps: Steps = None,
    guidance: Guidance = None,
    sketch: Sketch = None,
    seed: Seed = 0,
    batch: Batch = 8,
    sheet: Annotated[Path | None, typer.Option(help="Picture file to show some of the drawn pictures in.")] = None,
    device: Device = None,
    precision: Precision = None,
    json: Json = False,
) -> None:
    """Does the model draw what the words say? Needs a data set that tells concept and style, as emoji does."""
    from undiffuse.evaluation.retrieval import evaluate_prompts

    asked = _Asked(model, data, count, steps, guidance, sketch, seed, batch, sheet, device, precision, json)
    _measure(evaluate_prompts, asked, "seen pairs, held-out pairs, backgrounds")


@app.command()
def words(
    model: Model = None,
    data: Data = EMOJI,
    count: Annotated[
        int, typer.Option(help="Prompts of each kind but synonyms: side by side, one above the other, one or two.", min=1)
    ] = 200,
    steps: Steps = None,
    guidance: Guidance = None,
    sketch: Sketch = None,
    seed: Seed = 0,
    batch: Batch = 8,
    sheet: Annotated[Path | None, typer.Option(help="Picture file to show some of the drawn pictures in.")] = None,
    device: Device = None,
    precision: Precision = None,
    json: Json = False,
) -> None:
    """Does it understand names that no caption has, which of two things is where, and how many? Needs a data set like emoji."""
    from undiffuse.evaluation.words import evaluate_words

    asked = _Asked(model, data, count, steps, guidance, sketch, seed, batch, sheet, device, precision, json)
    _measure(evaluate_words, asked, "synonyms, two things side by side, one above the other, one or two")


@app.command()
def autoencoder(
    model: Model = None,
    data: Data = EMOJI,
    count: Annotated[int | None, typer.Option(help="Pictures, chosen by the seed; all when left out.", min=1)] = None,
    size: Annotated[int | None, typer.Option(help="Side in pixels; the model's own when left out.", min=16, max=2048)] = None,
    seed: Seed = 0,
    batch: Batch = 16,
    device: Device = None,
    json: Json = False,
) -> None:
    """How faithfully does an autoencoder give validation pictures back, and may a denoiser be trained on its latents? In fp32.

    Of a model, or of an autoencoder run.
    """
    from undiffuse.checkpoints.api import find_folder, load_codec
    from undiffuse.checkpoints.native import read_spec
    from undiffuse.core.devices import choose_device
    from undiffuse.evaluation.features import load_extractor
    from undiffuse.evaluation.health import AutoencoderHealth, judge
    from undiffuse.evaluation.latents import LatentRecorder
    from undiffuse.evaluation.reconstruction import evaluate_autoencoder

    console = Console(json)
    dataset = _open(data, "val")
    if not dataset.rows:
        dataset = _open(data, "all")
        console.remark(f"{data} has no validation split: all {len(dataset)} pictures are used, also those of the training")
    chosen = choose_device(device)
    codec, _ = load_codec(model)
    recorder = LatentRecorder(codec.to(chosen))
    extractor = load_extractor(chosen)
    skipped: list[Problem] = []
    with console.progress("evaluating") as bar:
        report = evaluate_autoencoder(
            dataset,
            lambda pixels: recorder(pixels.to(chosen)),
            extractor,
            size=size or read_spec(find_folder(model)).get("size", CODEC_SIZE),
            count=count,
            seed=seed,
            batch=batch,
            progress=bar,
            skip=skipped.append,
        )
    latents = recorder.report()
    _tell(AutoencoderHealth(report, latents, judge(report, latents)), [*dataset.problems, *skipped], console)


@app.command()
def contexts(
    model: Model = None,
    data: Data = SCENES,
    count: Annotated[int, typer.Option(help="Validation pictures for each kind of context, at most.", min=1)] = 200,
    steps: Steps = None,
    guidance: Guidance = None,
    seed: Seed = 0,
    batch: Batch = 8,
    sheet: Annotated[Path | None, typer.Option(help="Picture file: what was given, drawn, and the originals.")] = None,
    device: Device = None,
    precision: Precision = None,
    json: Json = False,
) -> None:
    """Does the model do what masks, maps, small pictures, class labels and boxes say? Measures those that it learned."""
    from undiffuse.checkpoints.api import load_model
    from undiffuse.evaluation.contexts.bench import Bench
    from undiffuse.evaluation.contexts.measure import evaluate_contexts
    from undiffuse.evaluation.contexts.sheet import context_sheet
    from undiffuse.evaluation.features import load_extractor
    from undiffuse.generation.generator import Generator

    console = Console(json)
    base = _base(steps, guidance)
    _check_sheet(sheet)
    dataset = _open(data, "all")
    draw = Generator(load_model(model), device=device, precision=precision, batch=batch, tell=console.remark)
    side, conditioner = draw.model.spec.size, draw.model.conditioner
    skipped: list[Problem] = []
    with console.progress("evaluating") as bar:
        bench = Bench(
            dataset,
            lambda asked: _drawn(draw, [base.replace(**{"width": side, "height": side, **said}) for said in asked]),
            load_extractor(draw.device),
            size=side,
            words="caption" in conditioner.fields,
            count=count,
            seed=seed,
            batch=batch,
            tell=bar,
            skip=skipped.append,
        )
        report, shown = evaluate_contexts(conditioner, bench)
    for name, reason in report.left_out.items():
        console.remark(f"{name} is left out: {reason}")
    _tell(report, [*dataset.problems, *dict.fromkeys(skipped)], console)
    if sheet is not None:
        sheet.parent.mkdir(parents=True, exist_ok=True)
        context_sheet(shown).save(sheet)
        console.say(f"{sheet}: from the top, {', '.join(shown)}; of each what was given, what was drawn, and the originals")


@app.command()
def fidelity(
    model: Model = None,
    data: Data = EMOJI,
    count: Annotated[int, typer.Option(help="Pictures to draw, at most as many as are held out.", min=2)] = 500,
    steps: Steps = None,
    guidance: Guidance = None,
    sketch: Sketch = None,
    seed: Seed = 0,
    batch: Batch = 8,
    device: Device = None,
    precision: Precision = None,
    json: Json = False,
) -> None:
    """Do its drawings look like the pictures of a data set, as a whole?

    Asks for what the captions of held-out pictures say, or their labels.
    """
    from undiffuse.checkpoints.api import load_model
    from undiffuse.conditioners.labels import known_labels
    from undiffuse.evaluation.features import load_extractor
    from undiffuse.evaluation.fidelity import evaluate_fidelity
    from undiffuse.generation.generator import Generator

    console = Console(json)
    base = _base(steps, guidance, sketch)
    dataset = _open(data, "all")
    draw = Generator(load_model(model), device=device, precision=precision, batch=batch, tell=console.remark)
    draw.settle(base)  # refuses at once what would fail after minutes
    conditioner = draw.model.conditioner
    classes = known_labels(conditioner.parts)
    skipped: list[Problem] = []
    with console.progress("evaluating") as bar:
        report = evaluate_fidelity(
            dataset,
            lambda asked: _drawn(draw, [base.replace(**said) for said in asked]),
            load_extractor(draw.device),
            fields=conditioner.fields,
            classes=classes,
            size=draw.model.spec.size,
            count=count,
            seed=seed,
            batch=batch,
            progress=bar,
            skip=skipped.append,
        )
    _tell(report, [*dataset.problems, *dict.fromkeys(skipped)], console)


@dataclass(frozen=True)
class _Asked:
    """The options of a command that has a model draw prompts."""

    model: str | None
    data: Path
    count: int
    steps: int | None
    guidance: float | None
    sketch: float | None
    seed: int
    batch: int
    sheet: Path | None
    device: str | None
    precision: str | None
    json: bool


def _base(steps: int | None, guidance: float | None, sketch: float | None = None) -> Request:
    """What every picture is asked for with; what is not told is left to the model."""
    from undiffuse.generation.request import Request

    told = {"steps": steps, "guidance": guidance, "sketch": sketch}
    return Request(seed=0, **{name: value for name, value in told.items() if value is not None})


def _measure(evaluate: Callable[..., Report], asked: _Asked, rows: str) -> None:
    """Draw, measure, tell; `rows` says what the sheet shows."""
    from undiffuse.checkpoints.api import load_model
    from undiffuse.evaluation.features import load_extractor
    from undiffuse.generation.generator import Generator

    console = Console(asked.json)
    base = _base(asked.steps, asked.guidance, asked.sketch)
    _check_sheet(asked.sheet)
    dataset = _open(asked.data, "all")
    model = load_model(asked.model)
    draw = Generator(model, device=asked.device, precision=asked.precision, batch=asked.batch, tell=console.remark)
    draw.model.conditioner.require(["caption"])
    settled = draw.settle(base.replace(prompt="a fox"))  # refuses at once what would fail after minutes
    start = "noise" if settled.sketch is None else f"the sketch under {settled.sketch:.0%} of noise"
    console.remark(f"{settled.steps} steps from {start}, guidance {settled.guidance:g}")
    drawing, skipped = _Drawing(draw, base), []
    with console.progress("evaluating") as bar:
        report = evaluate(
            dataset,
            drawing,
            lambda pixels: draw.model.codec(pixels.to(draw.device)),
            load_extractor(draw.device),
            size=draw.model.spec.size,
            count=asked.count,
            seed=asked.seed,
            batch=asked.batch,
            progress=bar,
            skip=skipped.append,
        )
    _tell(report, [*dataset.problems, *skipped], console)
    if asked.sheet is not None:
        drawing.write_sheet(asked.sheet)
        console.say(f"{asked.sheet}: from the top, {rows}")


def _drawn(draw: Generator, requests: Sequence[Request]) -> Tensor:
    """One picture for each request, (B, 3, H, W) in [-1, 1]."""
    import torch

    from undiffuse.core.pictures import to_pixels

    return torch.stack([to_pixels(result.images[0]) for result in draw.many(requests)])


class _Drawing:
    """Draws prompts with a generator and keeps the first few pictures of each kind."""

    def __init__(self, draw: Generator, base: Request) -> None:
        self.draw = draw
        self.base = base
        self.shown: dict[str, list[Image]] = {}

    def __call__(self, prompts: Sequence[Prompt]) -> Tensor:
        import torch

        from undiffuse.core.pictures import to_pixels

        requests = [self.base.replace(prompt=prompt.text, seed=prompt.seed) for prompt in prompts]
        images = [result.images[0] for result in self.draw.many(requests)]
        for prompt, image in zip(prompts, images, strict=True):
            of_kind = self.shown.setdefault(prompt.kind, [])
            if len(of_kind) < SHEET_EACH:
                of_kind.append(image)
        return torch.stack([to_pixels(image) for image in images])

    def write_sheet(self, path: Path) -> None:
        """All kept pictures as one; every kind starts a row of its own."""
        from PIL.Image import new

        from undiffuse.core.pictures import WHITE, grid_image

        places: list[Image] = []
        for images in self.shown.values():
            blank = new("RGB", images[0].size, WHITE)
            places += [*images, *[blank] * (-len(images) % SHEET_COLUMNS)]
        path.parent.mkdir(parents=True, exist_ok=True)
        grid_image(places, SHEET_COLUMNS).save(path)


def _check_sheet(sheet: Path | None) -> None:
    if sheet is not None and sheet.suffix.lower() not in SHEET_SUFFIXES:
        raise UsageError(explain(f"--sheet {sheet}", f"allowed are {', '.join(SHEET_SUFFIXES)}", "for instance sheet.png"))


def _open(data: Path, split: Split) -> Dataset:
    from undiffuse.data.dataset import open_dataset

    if data in BUILT and not data.exists():
        remedy = f"'undiffuse data build {BUILT[data]}' makes it, --data names another"
        raise DataError(explain(f"{data} is not there", "figures are measured on a data set", remedy))
    return open_dataset(data, split)


def _tell(report: Report | AutoencoderHealth, problems: list[Problem], console: Console) -> None:
    if problems:
        named = "; ".join(f"{problem.name}: {problem.reason}" for problem in problems[:NAMED])
        more = f"; and {len(problems) - NAMED} more" if len(problems) > NAMED else ""
        console.remark(f"problems of the data set: {named}{more}")
    console.say(report.table())
    console.result(report.to_json())
