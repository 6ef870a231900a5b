"""What both stages of a run begin with: its pictures, and nets whose weights follow from its seed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from undiffuse.core.errors import DataError, explain
from undiffuse.core.random import stream_seed
from undiffuse.data.dataset import Dataset, open_dataset
from undiffuse.data.store import PictureStore
from undiffuse.training.recipe import Recipe


def open_pictures(recipe: Recipe) -> tuple[Dataset, PictureStore, PictureStore]:
    """The training rows, their pictures, and the held-out pictures (those of the training when none are held out).

    Raises:
        DataError: when nothing usable lies there, or nothing to learn from.
    """
    size, budget = recipe.data.render.size, int(recipe.data.memory_gib * 2**30)
    path = Path(recipe.data.path).expanduser()
    whole = _labelled(_captioned(open_dataset(path), recipe.data.caption), recipe.data.label)
    train, held_out = (_split(whole, split) for split in ("train", "val"))
    if not len(train):
        given = f"{path} holds {len(held_out)} pictures, all of them for validation"
        raise DataError(explain(given, "at least one to learn from is needed", "add pictures, or change their split"))
    if not len(held_out):
        held_out = train
    return train, PictureStore(train, size, budget), PictureStore(held_out, size, budget // 8)


def _split(data: Dataset, split: str) -> Dataset:
    keep = [index for index, row in enumerate(data.rows) if row.split == split]
    return replace(
        data,
        rows=[data.rows[index] for index in keep],
        places=[data.places[index] for index in keep],
        maps=[data.maps[index] for index in keep] if data.maps else [],
    )


def _labelled(data: Dataset, field: str) -> Dataset:
    """The data set with the value of this field as the class of every picture that has it.

    Raises:
        DataError: when no picture has it.
    """
    if not field:
        return data
    rows = [replace(row, label=str(row.fields[field])) if row.fields.get(field) else row for row in data.rows]
    classes = sorted({row.label for row in rows if row.label is not None})
    if not any(row.fields.get(field) for row in data.rows):
        there = ", ".join(sorted({name for row in data.rows for name in row.fields})) or "none"
        raise DataError(explain(f"data.label = {field!r}", f"no picture of {data.path} has that field; there are: {there}"))
    return replace(data, rows=rows, classes=classes)


def _captioned(data: Dataset, caption: str) -> Dataset:
    """The data set with this caption where it has none."""
    if not caption:
        return data
    return replace(data, rows=[row if row.caption else replace(row, caption=caption) for row in data.rows])


def place(net: nn.Module, device: torch.device) -> None:
    """Move a net, in place, with its kernels in the order that convolutions are fastest in."""
    net.to(device)
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


@contextmanager
def seeded(recipe: Recipe, *net: str) -> Iterator[None]:
    """Fresh weights as a function of the recipe's seed: torch draws them from its global generator."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed("init", recipe.run.seed, *net))
        yield
