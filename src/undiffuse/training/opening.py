"""What both stages of a run begin with: its pictures, and nets whose weights follow from its seed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from undiffuse.core.errors import DataError, explain
from undiffuse.core.random import stream_seed
from undiffuse.data.dataset import Dataset, open_dataset
from undiffuse.data.records import Row
from undiffuse.data.store import PictureStore
from undiffuse.training.recipe import Recipe

SHOWN = 12  # values of a field in an error


def open_pictures(recipe: Recipe) -> tuple[Dataset, PictureStore, PictureStore]:
    """The training rows, their pictures, and the held-out pictures (those of the training when none are held out).

    Raises:
        DataError: when nothing usable lies there, or nothing to learn from.
    """
    size, budget = recipe.data.render.size, int(recipe.data.memory_gib * 2**30)
    path = Path(recipe.data.path).expanduser()
    chosen = _only(open_dataset(path), recipe.data.only)
    whole = _labelled(_captioned(chosen, recipe.data.caption), recipe.data.label)
    train, held_out = (_kept(whole, lambda row, split=split: row.split == split) for split in ("train", "val"))
    if not len(train):
        given = f"{path} holds {len(held_out)} pictures, all of them for validation"
        raise DataError(explain(given, "at least one to learn from is needed", "add pictures, or change their split"))
    if not len(held_out):
        held_out = train
    return train, PictureStore(train, size, budget), PictureStore(held_out, size, budget // 8)


def open_also(recipe: Recipe) -> list[tuple[Dataset, PictureStore]]:
    """The training rows of further data sets that a recipe names, and their pictures.

    Raises:
        DataError: when nothing usable lies there, or nothing to learn from.
    """
    found = []
    for also in recipe.data.also:
        data = open_dataset(Path(also.path).expanduser(), split="train")
        if not len(data):
            given = f"data.also names {also.path}, which holds no pictures to learn from"
            raise DataError(explain(given, "all of them are for validation", "change their split, or leave it out"))
        found.append((data, PictureStore(data, recipe.data.render.size, int(recipe.data.memory_gib * 2**30))))
    return found


def _kept(data: Dataset, wanted: Callable[[Row], bool]) -> Dataset:
    """The data set with the wanted rows alone."""
    keep = [index for index, row in enumerate(data.rows) if wanted(row)]
    return replace(
        data,
        rows=[data.rows[index] for index in keep],
        places=[data.places[index] for index in keep],
        maps=[data.maps[index] for index in keep] if data.maps else [],
    )


def _only(data: Dataset, allowed: Mapping[str, Sequence[str]]) -> Dataset:
    """The data set with the rows alone whose fields have one of the allowed values, and the classes of these rows.

    Raises:
        DataError: when no row has.
    """
    if not allowed:
        return data
    chosen = _kept(data, lambda row: all(row.fields.get(name) in values for name, values in allowed.items()))
    for name, values in allowed.items():
        there = sorted({str(row.fields[name]) for row in data.rows if row.fields.get(name)})
        strange = [value for value in values if value not in there]
        if strange:
            given = f"data.only.{name} names {strange[0]!r}"
            known = ", ".join(there[:SHOWN]) + (f" and {len(there) - SHOWN} more" if len(there) > SHOWN else "")
            raise DataError(explain(given, f"in {data.path} there are: {known or 'no pictures with that field'}"))
    if not len(chosen):
        raise DataError(explain(f"data.only = {dict(allowed)}", "no picture has all of that", "ask for less at once"))
    return replace(chosen, classes=sorted({row.label for row in chosen.rows if row.label is not None}))


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
