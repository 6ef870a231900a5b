"""Checkpoints of a run: everything that must survive a restart, in one file that appears whole or not at all.

Because batches and noise are functions of (seed, step, slot), the state is: weights, their averages, the
optimizers and one integer.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import nn

from undiffuse.core.errors import CheckpointError, explain
from undiffuse.training.ema import EMA

KEEP = 2


def save_state(
    folder: Path,
    step: int,
    nets: Mapping[str, nn.Module],
    averages: Mapping[str, EMA],
    optimizers: Mapping[str, torch.optim.Optimizer],
) -> Path:
    """Write `step-N.pt` beside the older ones, then drop all but the last two.

    The bytes go to a temporary name, are flushed to disk, and are renamed: a kill at any moment leaves
    the previous checkpoint as it was.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob("step-*.tmp"):
        left.unlink()
    state = {
        "step": step,
        "nets": {name: net.state_dict() for name, net in nets.items()},
        "averages": {name: ema.state() for name, ema in averages.items()},
        "optimizers": {name: optimizer.state_dict() for name, optimizer in optimizers.items()},
    }
    path = folder / f"step-{step:08d}.pt"
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    for old in checkpoints(folder)[:-KEEP]:
        old.unlink()
    return path


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in a folder, oldest first."""
    return sorted(folder.glob("step-*.pt"))


def load_state(
    folder: Path,
    nets: Mapping[str, nn.Module],
    averages: Mapping[str, EMA],
    optimizers: Mapping[str, torch.optim.Optimizer],
) -> int:
    """Take the newest checkpoint; returns the step that comes next, 0 when there is none.

    Raises:
        CheckpointError: when the file is damaged, or does not fit the recipe.
    """
    found = checkpoints(folder)
    if not found:
        return 0
    state = _read(found[-1])
    try:
        for name, net in nets.items():
            net.load_state_dict(state["nets"][name])
        for name, ema in averages.items():
            ema.load(state["averages"][name])
        for name, optimizer in optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
    except (KeyError, RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[-1].strip()
        given = f"{found[-1]} does not fit this run's recipe ({reason})"
        raise CheckpointError(explain(given, "a run goes on with the recipe it began with", "start a new run")) from None
    return int(state["step"])


def _read(path: Path) -> dict[str, Any]:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, ValueError, UnpicklingError) as error:
        reason = str(error).partition("\n")[0]
        given = f"{path} cannot be read ({reason})"
        raise CheckpointError(
            explain(given, "a whole checkpoint is needed", "delete it to go on from the one before")
        ) from None
