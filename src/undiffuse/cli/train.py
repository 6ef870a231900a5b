"""`undiffuse train`: a recipe becomes a run, a run goes on."""

from __future__ import annotations

import os
import shlex
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from undiffuse.cli.console import Bar, Console
from undiffuse.cli.options import Device, Json
from undiffuse.core.errors import UsageError, explain

if TYPE_CHECKING:
    from undiffuse.training.recipe import Recipe

RUNS = Path("runs")
QUIET_SECONDS = 10.0  # between two plain lines


def command(
    recipe: Annotated[Path | None, typer.Argument(help="Recipe, a TOML file; see recipes/.")] = None,
    changes: Annotated[list[str] | None, typer.Option("--set", help="Change a value: a.b=c; may be repeated.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Folder of a run to go on with.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run; runs/NAME when left out.")] = None,
    device: Device = None,
    precision: Annotated[str | None, typer.Option(help="auto, fp32, bf16.")] = None,
    json: Json = False,
) -> None:
    """Train a model by a recipe, or go on with a run.

    Ctrl-C saves and stops; --resume goes on, to the same weights as if it had never stopped.
    """
    from undiffuse.training import run
    from undiffuse.training.recipe import load_recipe, read_recipe

    overrides = [*(changes or []), *_forced("device", device), *_forced("precision", precision)]
    if recipe is not None and resume is None:
        asked = load_recipe(recipe, overrides)
        folder = out or RUNS / asked.name
    elif resume is not None and recipe is None:
        if out is not None:
            raise UsageError(explain(f"--out {out} with --resume", "a run stays in its folder", "leave --out out"))
        asked, folder = read_recipe(resume / run.RECIPE, overrides), resume
    else:
        given = "neither a recipe nor --resume" if recipe is None else f"recipe {recipe} and --resume {resume}"
        raise UsageError(
            explain(given, "one of the two is needed", "for instance: undiffuse train recipes/photos/diffusion.toml")
        )
    console = Console(json)
    with Progress(console, asked.run.batch) as shown:
        if resume is None:
            model = run.train(asked, folder, shown.listen, shown.progress, shown.remark)
        else:
            model = run.resume(folder, shown.listen, shown.progress, asked, shown.remark)
    if _leads():
        _tell(asked, folder, model, shown.values, console)


def _forced(key: str, value: str | None) -> list[str]:
    return [] if value is None else [f"run.{key}={value}"]


def _leads() -> bool:
    """Whether this is the one process that speaks: `torchrun` numbers those that it starts."""
    return os.environ.get("RANK", "0") == "0"


class Progress:
    """What a run shows while it goes: a bar for each of its phases on a terminal, else a plain line now and then."""

    def __init__(self, console: Console, batch: int) -> None:
        self.console = console
        self.batch = batch
        self.values: dict[str, float] = {}
        self._open = ExitStack()
        self._bar: Bar | None = None
        self._phase = ""
        self._words = ""
        self._said = float("-inf")

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def remark(self, line: str) -> None:
        """A line on the error stream, in the place of the bar that was there."""
        self._open.close()
        self._phase, self._bar = "", None
        self.console.remark(line)

    def progress(self, done: int, total: int, what: str) -> None:
        """Move the bar of this phase."""
        if what != self._phase:
            self._open.close()
            self._phase, self._words, self._said = what, "", float("-inf")
            self._bar = self._open.enter_context(self.console.progress(what))
        if self._bar is not None:
            self._bar(done, total, self._words)
        if what != "training":
            self._line(f"{what}: {done} of {total}")

    def listen(self, step: int, steps: int, values: dict[str, float]) -> None:
        """Say how the run goes."""
        self.values = values
        speed = values["pictures_per_second"]
        left = (steps - step) * self.batch / speed
        self._words = f"{_losses(values)}, {speed:.1f} pictures/s"
        self._line(f"step {step} of {steps}: {self._words}, {duration(left)} left", last=step == steps)

    def _line(self, line: str, last: bool = False) -> None:
        """Print the line, unless there is a bar or one was printed just now."""
        now = time.monotonic()
        if not self.console.has_bars and (last or now - self._said >= QUIET_SECONDS):
            self._said = now
            self.console.remark(line)


def _losses(values: dict[str, float]) -> str:
    """The loss of every net, and how close reconstructions come."""
    nets = [name.removesuffix("/loss") for name in values if name.endswith("/loss")]
    shown = [f"loss {values[f'{net}/loss']:.4f}" if net == nets[0] else f"{net} {values[f'{net}/loss']:.4f}" for net in nets]
    shown += [f"psnr {value:.1f} dB" for name, value in values.items() if name.endswith("/psnr")]
    return ", ".join(shown)


def duration(seconds: float) -> str:
    """A time in words, two units at most: "40 s", "12 min", "3 h 05 min"."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def _tell(recipe: Recipe, folder: Path, model: Path, values: dict[str, float], console: Console) -> None:
    """Where the model is, and what to type next."""
    following = _next(recipe, model)
    console.say(str(model))
    console.say(f"next: {following}")
    console.result({"run": str(folder), "model": str(model), "steps": recipe.run.steps, "values": values, "next": following})


def _next(recipe: Recipe, model: Path) -> str:
    from undiffuse.checkpoints.native import read_spec

    spec = read_spec(model)
    if "denoiser" not in spec:
        return f"undiffuse train DIFFUSION_RECIPE --set objective.codec={model}"
    parts: list[dict[str, Any]] = spec.get("conditioners", [])
    classes = [name for part in parts if part["kind"] == "label" for name in part["classes"]]
    if classes and not any(part["kind"] == "text" for part in parts):
        words = f"--label {shlex.quote(classes[0])}"
    else:
        words = shlex.quote(_prompt(recipe, model.parent))
    return f"undiffuse generate {words} --model {shlex.quote(str(model))}"


def _prompt(recipe: Recipe, folder: Path) -> str:
    """Something that the model has learned a word for, if there is anything."""
    from undiffuse.data.latents import LatentCache

    if recipe.objective.kind != "diffusion":
        return "PROMPT"  # the run has seen no captions
    if recipe.objective.preview_prompts:
        return recipe.objective.preview_prompts[0]
    return next((caption for row in LatentCache(folder / "latents").captions for caption in row if caption), "")
