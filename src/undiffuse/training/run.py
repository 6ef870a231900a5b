"""`train`: a recipe becomes a run; `resume`: a run goes on."""

from __future__ import annotations

from pathlib import Path

import torch

from undiffuse.core.devices import choose_device, choose_precision
from undiffuse.core.errors import UsageError, explain
from undiffuse.data.records import Progress
from undiffuse.training.distributed import join_workers, leave_workers
from undiffuse.training.loop import Listener, Trainer
from undiffuse.training.prepare import prepare
from undiffuse.training.recipe import Recipe, read_recipe, write_recipe
from undiffuse.training.state import checkpoints

RECIPE = "recipe.json"


def train(recipe: Recipe, folder: Path, listen: Listener, progress: Progress | None = None) -> Path:
    """Start a run in a fresh folder; returns the folder of the trained model.

    Raises:
        UsageError: when the folder holds a run already.
        Cancelled, Diverged: as the loop raises them.
    """
    if checkpoints(folder / "checkpoints"):
        given = f"{folder} holds a run already"
        raise UsageError(explain(given, "a run needs a folder of its own", f"use --resume {folder}, or another --out"))
    folder.mkdir(parents=True, exist_ok=True)
    write_recipe(recipe, folder / RECIPE)
    return _run(recipe, folder, listen, progress)


def resume(folder: Path, listen: Listener, progress: Progress | None = None, recipe: Recipe | None = None) -> Path:
    """Go on with a run, to the same bits as if it had never stopped; returns the folder of the trained model.

    `recipe` replaces the run's own, for instance to take more steps.

    Raises:
        UsageError: when the folder is no run.
        Cancelled, Diverged: as the loop raises them.
    """
    stored = read_recipe(folder / RECIPE)
    if recipe is not None:
        write_recipe(recipe, folder / RECIPE)
    return _run(recipe or stored, folder, listen, progress)


def _run(recipe: Recipe, folder: Path, listen: Listener, progress: Progress | None) -> Path:
    device = choose_device(recipe.run.device)
    precision = choose_precision(device, recipe.run.precision)
    workers = join_workers(device)
    if workers.count > 1 and device.type == "cuda":
        device = torch.device("cuda", workers.rank % torch.cuda.device_count())
    try:
        if workers.leads:
            prepare_first = prepare(recipe, folder, device, progress)
        workers.wait()
        objective = prepare_first if workers.leads else prepare(recipe, folder, device)
        Trainer(recipe, objective, folder, workers, precision).run(listen)
    finally:
        leave_workers()
    return folder / "model"
