"""The loop, once, for every objective."""

from __future__ import annotations

import math
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from undiffuse.core.errors import Cancelled, Diverged, UsageError, explain
from undiffuse.core.random import stream_seed
from undiffuse.data.prefetch import Prefetcher
from undiffuse.data.records import Progress
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

    def __init__(
        self, recipe: Recipe, objective: Objective[Any], folder: Path, workers: Workers, precision: torch.dtype
    ) -> None:
        self.recipe = recipe
        self.objective = objective
        self.folder = folder
        self.workers = workers
        self.precision = precision
        self.optimizers = {name: build_optimizer(recipe.optimizer, net) for name, net in objective.players.items()}
        self.averages = {name: EMA(net, recipe.optimizer.ema) for name, net in objective.players.items()}
        self.device = next(next(iter(objective.players.values())).parameters()).device
        objective.workers = workers

    def resume(self) -> int:
        """Take up the newest checkpoint of the folder; returns the next step, 0 for a fresh run.

        Raises:
            UsageError: when more steps are taken already than the recipe asks for.
            CheckpointError: when the checkpoint is damaged or does not fit the recipe.
        """
        step = load_state(self.folder / "checkpoints", self.objective.players, self.averages, self.optimizers)
        self.workers.share_weights(self.objective.players.values())
        steps = self.recipe.run.steps
        if step > steps:
            given = f"{self.folder} has taken {step} steps, run.steps = {steps}"
            raise UsageError(explain(given, "steps cannot be taken back", f"for more: --set run.steps={step + steps}"))
        return step

    def run(self, first: int, listen: Listener | None = None, progress: Progress | None = None) -> None:
        """Take the steps from `first` on, then export.

        Raises:
            Cancelled: after Ctrl-C, with everything saved.
            Diverged: when a loss is no finite number; the last checkpoint stands.
        """
        run = self.recipe.run
        if first == run.steps:
            self.export()
            return
        if run.compile:
            self.objective.compile()
        slots = self.workers.slots(run.batch)
        clock, before = time.monotonic(), first
        with ExitStack() as stack:
            stack.enter_context(torch.random.fork_rng(devices=[]))
            if self.device.type == "cpu":  # for short sequences the fused kernel's backward is slower than plain matmuls
                stack.enter_context(sdpa_kernel(SDPBackend.MATH))
            interrupted = stack.enter_context(_interrupts(patient=self.workers.count > 1))
            metrics = stack.enter_context(_metrics(self.folder, first, self.workers))
            batches = stack.enter_context(Prefetcher(lambda step: self.objective.batch(step, slots), first))
            for step in range(first, run.steps):
                values = self._step(next(batches), step)
                done = step + 1
                stopped = self.workers.any(interrupted())
                if progress is not None and self.workers.leads:
                    progress(done, run.steps, "training")
                logs = done % run.log_every == 0 or done == run.steps
                saves = done % run.save_every == 0 or done == run.steps or stopped
                numbers = self._numbers(values, done) if logs or saves else {}
                if logs:
                    numbers["pictures_per_second"] = (done - before) * run.batch / max(time.monotonic() - clock, 1e-9)
                    clock, before = time.monotonic(), done
                    if metrics is not None:
                        metrics.write(done, numbers)
                        if listen is not None:
                            listen(done, run.steps, numbers)
                if saves:
                    self.save(done)
                if stopped and done < run.steps:
                    raise Cancelled(f"stopped after step {done}; go on with: undiffuse train --resume {self.folder}")
                if run.preview_every and done % run.preview_every == 0:
                    self.preview(done)

    def _step(self, batch: Any, step: int) -> dict[str, Tensor]:
        seen: dict[str, Tensor] = {}
        spec = self.recipe.optimizer
        torch.manual_seed(stream_seed("dropout", self.recipe.run.seed, step, self.workers.rank))  # nothing else draws from it
        for player, net in self.objective.players.items():
            optimizer = self.optimizers[player]
            share = learning_rate(spec, step, self.recipe.run.steps) / spec.rate
            set_rate(optimizer, share * (self.objective.rate(player) or spec.rate))
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32):
                loss, values = self.objective.loss(player, batch, step)
            loss.backward()
            self.workers.average_gradients(net)
            seen[f"{player}/norm"] = clip(net.parameters(), spec.clip)
            optimizer.step()
            self.averages[player].update()
            seen[f"{player}/rate"] = torch.tensor(optimizer.param_groups[0]["lr"])
            seen |= {f"{player}/{name}": value.detach() for name, value in values.items()}
        return seen

    def _numbers(self, values: dict[str, Tensor], done: int) -> dict[str, float]:
        """The values of a step as numbers, means over all processes."""
        numbers = self.workers.average_numbers({name: float(value) for name, value in values.items()})
        wrong = [name for name, value in numbers.items() if not math.isfinite(value)]
        if wrong:
            given = f"{wrong[0]} is not finite at step {done}"
            remedy = f"lower optimizer.rate; the last checkpoint in {self.folder / 'checkpoints'} stands"
            raise Diverged(explain(given, "finite numbers are needed", remedy))
        return numbers

    def save(self, step: int) -> None:
        """Write a checkpoint, and the averaged weights as a model."""
        if self.workers.leads:
            save_state(self.folder / "checkpoints", step, self.objective.players, self.averages, self.optimizers)
        self.export()

    def export(self) -> None:
        """Write the averaged weights as a model."""
        if self.workers.leads:
            with self._averaged():
                _replace_folder(self.folder / "model", self.objective.export)
        self.workers.wait()

    def preview(self, step: int) -> None:
        """Save the objective's picture of its progress, drawn with the averaged weights."""
        if self.workers.leads:
            folder = self.folder / "previews"
            folder.mkdir(exist_ok=True)
            # Drawing has other batch sizes than training: compiling for them would take longer than it saves.
            eager = torch.compiler.set_stance("force_eager") if self.recipe.run.compile else nullcontext()
            with self._averaged(), eager:
                self.objective.preview(step).save(folder / f"{step:08d}.png")
        self.workers.wait()

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """Inside, nets hold their averages and are in inference; afterwards all is as before, to the bit."""
        with ExitStack() as stack, torch.no_grad():
            for name, net in self.objective.players.items():
                stack.callback(_learn_again, net, [p for p in net.parameters() if p.requires_grad])
                stack.enter_context(self.averages[name].swapped())
                net.eval()
            yield


def _learn_again(net: nn.Module, trained: list[nn.Parameter]) -> None:
    """Back to training; drawing may have frozen weights that learn."""
    net.train()
    for parameter in trained:
        parameter.requires_grad_(True)


@contextmanager
def _metrics(folder: Path, first: int, workers: Workers) -> Iterator[Metrics | None]:
    if not workers.leads:
        yield None
        return
    metrics = Metrics(folder, first)
    try:
        yield metrics
    finally:
        metrics.close()


@contextmanager
def _interrupts(patient: bool) -> Iterator[Callable[[], bool]]:
    """Inside, Ctrl-C and SIGTERM are noted instead of raised; the value says whether one came.

    A second Ctrl-C is raised, unless `patient`: `torchrun` passes on what the terminal has sent already.
    """
    caught: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        caught.append(number)
        if caught.count(signal.SIGINT) > 1 and not patient:
            raise KeyboardInterrupt

    try:
        old = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not in the main thread: whoever runs us there handles signals
        old = {}
    try:
        yield lambda: bool(caught)
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def _replace_folder(folder: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a fresh folder, then put it in the place of the old one."""
    fresh, old = folder.with_name(folder.name + ".new"), folder.with_name(folder.name + ".old")
    shutil.rmtree(fresh, ignore_errors=True)
    write(fresh)
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    fresh.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
