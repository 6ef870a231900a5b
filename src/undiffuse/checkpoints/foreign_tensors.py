"""Tensors of files that others wrote, read without running anything that is in them."""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from undiffuse.checkpoints.headers import PICKLES
from undiffuse.core.errors import CheckpointError, UnknownFormat, explain

READABLE = 0o644
COPIED: dict[str, Any] = {"backend": "pread"} if "backend" in (safe_open.__text_signature__ or "") else {}
"""Tensors are read, not mapped: mapped ones keep the whole file in memory for as long as the last of them is there."""
READ = (".safetensors", ".sft", *PICKLES)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a file by name, and its metadata.

    A pickle is read by torch's reader for weights alone, which knows tensors and plain containers and nothing else.

    Raises:
        CheckpointError: when the file is missing or damaged, or a pickle wants to run something, which is named.
        UnknownFormat: when it is no such file.
    """
    if not path.is_file():
        raise CheckpointError(explain(f"{path} is not there", "a model file is needed", "check the path"))
    if path.suffix.lower() in PICKLES:
        return _tensors_in(unpickled(path)), {}
    try:
        with safe_open(path, "pt", **COPIED) as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        given = f"{path} cannot be read ({str(error).splitlines()[0]})"
        raise CheckpointError(explain(given, "a whole .safetensors file is needed", "fetch it again")) from None


def write_tensors(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write a .safetensors file that other programs read; it appears whole or not at all."""
    temporary = path.with_name(f".{path.name}.part")
    try:
        save_file(dict(tensors), temporary, metadata={"format": "pt", **(metadata or {})})
        temporary.chmod(READABLE)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def unpickled(path: Path) -> object:
    """What a pickle holds, of tensors and plain containers.

    Raises:
        CheckpointError: when it is damaged, or wants to run something, which is named.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about the age of a pickle
            return torch.load(path, map_location="cpu", weights_only=True, mmap=_is_zip(path))
    except pickle.UnpicklingError as error:
        wanted = re.search(r"GLOBAL ([\w.]+)", str(error))
        given = f"the pickle {path} asks for {wanted[1] if wanted else 'code of its own'}"
        remedy = "have it converted to .safetensors by somebody who trusts it"
        raise CheckpointError(explain(given, "tensors and plain containers are read, nothing is ever run", remedy)) from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, AttributeError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(explain(f"{path} cannot be read ({first})", "a whole file is needed", "fetch it again")) from None


def _is_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def _tensors_in(content: object) -> dict[str, Tensor]:
    """The tensors of a checkpoint, in `state_dict` or bare."""
    inner = content.get("state_dict", content) if isinstance(content, Mapping) else None
    if not isinstance(inner, Mapping) or not any(isinstance(value, Tensor) for value in inner.values()):
        raise UnknownFormat(explain("the file holds no tensors by name", "a checkpoint with a state_dict is read"))
    return {str(name): value for name, value in inner.items() if isinstance(value, Tensor)}
