"""The loop, once, for every objective."""

from __future__ import annotations

import math
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import torch
from torch import Tensor

from undiffuse.core.errors import Cancelled, Diverged, explain
from undiffuse.data.prefetch import Prefetcher
from undiffuse.training.distributed import Workers
from undiffuse.training.ema import EMA
from undiffuse.training.metrics import Metrics
from undiffuse.training.objectives.base import Objective
from undiffuse.training.optim import build_optimizer, clip, learning_rate, set_rate
from undiffuse.training.recipe import Recipe
from undiffuse.training.state import load_state, save_state


class Listener(Protocol):
    """Whoever wants to hear of every logged step: a progress bar, a test."""

    def __call__(self, step: int, steps: int, values: dict[str, float]) -> None: ...


class Trainer:
    """Nets, their averages and optimizers in one place; `run` takes the steps.

    One step: the batch that was made ahead, a loss and an update for every player, averages. Every
    `save_every` steps a checkpoint and an exported model, every `preview_every` a picture.
    """

    def __init__(self, recipe: Recipe, objective: Objective[Any], folder: Path, workers: Workers, precision: torch.dtype) -> None:
        self.recipe = recipe
        self.objective = objective
        self.folder = folder
        self.workers = workers
        self.precision = precision
        self.optimizers = {name: build_optimizer(recipe.optimizer, net) for name, net in objective.players.items()}
        self.averages = {name: EMA(net, recipe.optimizer.ema) for name, net in objective.players.items()}
        self.device = next(next(iter(objective.players.values())).parameters()).device

    def resume(self) -> int:
        """Take up the newest checkpoint of the folder; returns the next step, 0 for a fresh run."""
        step = load_state(self.folder / "checkpoints", self.objective.players, self.averages, self.optimizers)
        self.workers.share_weights(self.objective.players.values())
        return step

    def run(self, listen: Listener) -> None:
        """Take all steps that are left, then export.

        Raises:
            Cancelled: after Ctrl-C, with everything saved.
            Diverged: when a loss is no finite number; the last checkpoint stands.
        """
        run, first = self.recipe.run, self.resume()
        if run.compile:
            for net in self.objective.players.values():
                net.compile()
        slots = self.workers.slots(run.batch)
        clock, done, last = time.monotonic(), 0, first - 1
        with ExitStack() as stack:
            interrupted = stack.enter_context(_interrupts())
            metrics = stack.enter_context(_metrics(self.folder, self.workers))
            batches = stack.enter_context(Prefetcher(lambda step: self.objective.batch(step, slots), first))
            for step in range(first, run.steps):
                values = self._step(next(batches), step)
                last, done = step, done + 1
                if (step + 1) % run.log_every == 0 or step + 1 == run.steps:
                    numbers = {name: float(value) for name, value in values.items()}
                    self._check(numbers, step)
                    numbers["pictures_per_second"] = done * run.batch / (time.monotonic() - clock)
                    clock, done = time.monotonic(), 0
                    if metrics is not None:
                        metrics.write(step + 1, numbers)
                        listen(step + 1, run.steps, numbers)
                if interrupted() or (step + 1) % run.save_every == 0:
                    self.save(step + 1)
                if interrupted():
                    raise Cancelled(f"stopped after step {step + 1}; go on with: undiffuse train --resume {self.folder}")
                if run.preview_every and (step + 1) % run.preview_every == 0:
                    self.preview(step + 1)
            if (last + 1) % run.save_every or last < first:
                self.save(run.steps)

    def _step(self, batch: Any, step: int) -> dict[str, Tensor]:
        seen: dict[str, Tensor] = {}
        spec = self.recipe.optimizer
        for player, net in self.objective.players.items():
            optimizer = self.optimizers[player]
            share = learning_rate(spec, step, self.recipe.run.steps) / spec.rate
            set_rate(optimizer, share * (self.objective.rate(player) or spec.rate))
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32):
                loss, values = self.objective.loss(player, batch, step)
            loss.backward()
            self.workers.average_gradients(net)
            seen[f"{player}/norm"] = torch.as_tensor(clip(net.parameters(), spec.clip))
            optimizer.step()
            self.averages[player].update()
            seen[f"{player}/rate"] = torch.tensor(optimizer.param_groups[0]["lr"])
            seen |= {f"{player}/{name}": value.detach() for name, value in values.items()}
        return seen

    def _check(self, numbers: dict[str, float], step: int) -> None:
        wrong = [name for name, value in numbers.items() if not math.isfinite(value)]
        if wrong:
            given = f"{wrong[0]} is not finite at step {step + 1}"
            remedy = f"lower optimizer.rate; the last checkpoint in {self.folder / 'checkpoints'} stands"
            raise Diverged(explain(given, "finite numbers are needed", remedy))

    def save(self, step: int) -> None:
        """Write a checkpoint, and the averaged weights as a model."""
        if self.workers.leads:
            save_state(self.folder / "checkpoints", step, self.objective.players, self.averages, self.optimizers)
            with self._averaged():
                _replace_folder(self.folder / "model", self.objective.export)
        self.workers.wait()

    def preview(self, step: int) -> None:
        """Save the objective's picture of its progress, drawn with the averaged weights."""
        if self.workers.leads:
            folder = self.folder / "previews"
            folder.mkdir(exist_ok=True)
            with self._averaged():
                self.objective.preview(step).save(folder / f"{step:08d}.png")
        self.workers.wait()

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        with ExitStack() as stack, torch.no_grad():
            for ema in self.averages.values():
                stack.enter_context(ema.swapped())
            for net in self.objective.players.values():
                net.eval()
                stack.callback(net.train)
            yield


@contextmanager
def _metrics(folder: Path, workers: Workers) -> Iterator[Metrics | None]:
    if not workers.leads:
        yield None
        return
    metrics = Metrics(folder)
    try:
        yield metrics
    finally:
        metrics.close()


@contextmanager
def _interrupts() -> Iterator[Any]:
    """Inside, Ctrl-C and SIGTERM are noted instead of raised; the value says whether one came."""
    caught: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        caught.append(number)

    try:
        old = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not in the main thread: whoever runs us there handles signals
        old = {}
    try:
        yield lambda: bool(caught)
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def _replace_folder(folder: Path, write: Any) -> None:
    """Let `write` fill a fresh folder, then put it in the place of the old one."""
    fresh = folder.with_name(folder.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    write(fresh)
    if folder.exists():
        old = folder.with_name(folder.name + ".old")
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
        fresh.rename(folder)
        shutil.rmtree(old)
    else:
        fresh.rename(folder)
