"""`train`: a recipe becomes a run; `resume`: a run goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from undiffuse.core.devices import choose_device, choose_precision, describe, keep_freed_memory
from undiffuse.core.errors import Cancelled, UsageError, explain
from undiffuse.data.records import Progress
from undiffuse.training.distributed import Workers, join_workers, leave_workers
from undiffuse.training.loop import Listener, Trainer
from undiffuse.training.objectives.base import Objective
from undiffuse.training.prepare import prepare
from undiffuse.training.recipe import Recipe, read_recipe, write_recipe
from undiffuse.training.start import settle
from undiffuse.training.state import checkpoints

RECIPE = "recipe.json"

Tell = Callable[[str], None]


def train(
    recipe: Recipe,
    folder: str | Path,
    listen: Listener | None = None,
    progress: Progress | None = None,
    tell: Tell | None = None,
) -> Path:
    """Start a run in a fresh folder; returns the folder of the trained model.

    Args:
        recipe: what to learn, from what, for how long.
        folder: made when missing; recipe, log, checkpoints, previews and the model go into it.
        listen: hears the numbers of every logged step.
        progress: told (done, in all, what) while pictures are encoded and after every step.
        tell: takes lines worth reading once: sizes, device, and what may disappoint.

    Raises:
        UsageError: when the folder holds a run already.
        SpecError, DataError, CheckpointError: when recipe, pictures or a model that it names cannot be used.
        Cancelled: after Ctrl-C, with everything saved.
        Diverged: when a loss is no finite number; the last checkpoint stands.
    """
    folder = Path(folder)
    if checkpoints(folder / "checkpoints"):
        given = f"{folder} holds a run already"
        remedy = f"use 'undiffuse train --resume {folder}', or another --out"
        raise UsageError(explain(given, "a run needs a folder of its own", remedy))
    return _run(settle(recipe), folder, listen, progress, tell)


def resume(
    folder: str | Path,
    listen: Listener | None = None,
    progress: Progress | None = None,
    recipe: Recipe | None = None,
    tell: Tell | None = None,
) -> Path:
    """Go on with a run, to the same bits as if it had never stopped; returns the folder of the trained model.

    `recipe` replaces the run's own, for instance to take more steps; the others are as in `train`.

    Raises:
        UsageError: when the folder is no run, or has taken more steps than the recipe asks for.
        CheckpointError: when the checkpoint is damaged or does not fit the recipe.
        Cancelled, Diverged: as `train` raises them.
    """
    folder = Path(folder)
    return _run(recipe or read_recipe(folder / RECIPE), folder, listen, progress, tell)


def _run(recipe: Recipe, folder: Path, listen: Listener | None, progress: Progress | None, tell: Tell | None) -> Path:
    device = choose_device(recipe.run.device)
    precision = choose_precision(device, recipe.run.precision)
    if device.type == "cpu":
        keep_freed_memory()
    workers = join_workers(device)
    try:
        if workers.leads and not checkpoints(folder / "checkpoints"):
            folder.mkdir(parents=True, exist_ok=True)
            write_recipe(recipe, folder / RECIPE)
        objective = _prepare(recipe, folder, workers, progress)
        trainer = Trainer(recipe, objective, folder, workers, precision)
        first = trainer.resume()
        if workers.leads:
            write_recipe(recipe, folder / RECIPE)  # only now: a recipe that does not fit must not replace one that does
            if tell is not None:
                _introduce(recipe, objective, describe(workers.device, precision), first, tell)
        trainer.run(first, listen, progress)
        workers.wait()  # whoever leaves while another still listens to him leaves that one to crash
    except KeyboardInterrupt:
        given = "stopped at once; what was saved before stands"
        raise Cancelled(f"{given}; go on with: undiffuse train --resume {folder}") from None
    finally:
        leave_workers()
    return folder / "model"


def _prepare(recipe: Recipe, folder: Path, workers: Workers, progress: Progress | None) -> Objective:
    """The first process fills the caches; the others find them filled."""
    if not workers.leads:
        workers.wait()
        return prepare(recipe, folder, workers.device)
    objective = prepare(recipe, folder, workers.device, progress)
    workers.wait()
    return objective


def _introduce(recipe: Recipe, objective: Objective, machine: str, first: int, tell: Tell) -> None:
    facts = ", ".join(f"{name} {value}" for name, value in objective.describe().items())
    tell(f"{facts}; {machine}; {recipe.run.batch} pictures a step, steps {first} to {recipe.run.steps}")
    if recipe.run.compile and first < recipe.run.steps:
        tell("run.compile = true: the first step takes a minute or two")
    for warning in objective.warnings():
        tell(warning)
