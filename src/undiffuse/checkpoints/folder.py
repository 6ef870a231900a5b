"""A model folder that appears whole or not at all, and takes the place of an older one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from undiffuse.core.errors import CheckpointError, explain

SPEC = "spec.json"
CARD = "README.md"
TOKENIZER, THESAURUS = "tokenizer.json", "thesaurus.json"
PARTS = ("autoencoder", "denoiser", "conditioner", "preview")
OURS = (SPEC, TOKENIZER, THESAURUS, *(f"{part}.safetensors" for part in PARTS))


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """A fresh folder to fill; when the block ends without an error it becomes `folder`.

    An older model there is replaced as a whole; files that are not in `OURS`, a model card among them, are kept
    unless the new model brings its own. After a kill at any moment `folder` holds the old model, the new one,
    or for an instant nothing, with the old one beside it; the next call mends that.

    Raises:
        CheckpointError: when the path is a file, or a folder with files of something else.
    """
    folder = folder.absolute()
    old = folder.with_name(f".{folder.name}.old")
    _mend(folder, old)
    _check(folder)
    fresh = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    try:
        yield fresh
        for path in fresh.iterdir():
            _flush(path)
        if folder.exists():
            folder.rename(old)
        fresh.rename(folder)
        _mend(folder, old)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _check(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise CheckpointError(explain(f"{folder} is a file", "a model is written as a folder", "name another path"))
    if folder.is_dir() and not (folder / SPEC).is_file() and any(path.name != CARD for path in folder.iterdir()):
        given = f"{folder} holds files that are no model"
        raise CheckpointError(explain(given, "a new or empty folder, or a model to replace, is needed", "name another path"))


def _mend(folder: Path, old: Path) -> None:
    """Finish what follows the swap: whatever is not the model's own moves over, then the old folder goes."""
    if not old.exists():
        return
    if not folder.exists():
        old.rename(folder)
        return
    for path in old.iterdir():
        if path.name not in OURS and not (folder / path.name).exists():
            path.rename(folder / path.name)
    shutil.rmtree(old)


def _flush(path: Path) -> None:
    """Have the bytes on the disk before the name: a power cut leaves no empty files behind a finished rename."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())
