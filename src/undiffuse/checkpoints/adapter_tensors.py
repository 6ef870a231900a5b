"""Small files that people share, as they are: tensors in their own precision, the header's texts, and hashes."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from undiffuse.core.errors import CheckpointError, explain

SAFETENSORS = (".safetensors", ".sft")
PICKLES = (".pt", ".pth", ".bin", ".ckpt")
CHUNK = 1 << 20
KOHYA_HASH = "sshs_model_hash"


@dataclass(frozen=True)
class Content:
    """What a file holds: `tensors` by name, possibly nested in tables, and the texts of its header."""

    tensors: Mapping[Any, Any]
    header: Mapping[str, str]


def read_content(path: Path) -> Content:
    """Read a safetensors file, or a pickle as tensors only: nothing in it is executed.

    Raises:
        CheckpointError: when it is missing, damaged, of another kind, or a pickle that holds more than tensors.
    """
    if path.suffix.lower() in SAFETENSORS:
        with _readable(path), safe_open(path, framework="pt") as file:
            return Content({name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {})
    if path.suffix.lower() not in PICKLES:
        kinds = ", ".join((*SAFETENSORS, *PICKLES))
        raise CheckpointError(explain(f"{path} has an unknown ending", f"files of these kinds are read: {kinds}"))
    with _readable(path), torch.serialization.safe_globals([torch.nn.ParameterDict]):
        found = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(found, dict):
        raise CheckpointError(explain(f"{path} holds a {type(found).__name__}", "a table of tensors is needed"))
    return Content(found, {})


def only_tensors(content: Content, path: Path) -> dict[str, Tensor]:
    """The tensors of a file that holds nothing else.

    Raises:
        CheckpointError: naming what else there is.
    """
    strange = [str(name) for name, value in content.tensors.items() if not isinstance(value, Tensor)]
    if strange:
        raise CheckpointError(explain(f"{path} holds {strange[0]!r}, which is no tensor", "a table of tensors is needed"))
    return {str(name): tensor for name, tensor in content.tensors.items()}


def whole_hash(path: Path) -> str:
    """SHA-256 of the file, in hex digits."""
    return _hash(path, 0)


def lora_hash(path: Path, header: Mapping[str, str]) -> str:
    """The hash that others name a LoRA by: the one in its header, else SHA-256 of all that follows the header."""
    if KOHYA_HASH in header:
        return header[KOHYA_HASH]
    if path.suffix.lower() not in SAFETENSORS:
        return whole_hash(path)
    with path.open("rb") as file:
        return _hash(path, 8 + int.from_bytes(file.read(8), "little"))


def _hash(path: Path, start: int) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        file.seek(start)
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Errors of readers in our own words."""
    try:
        yield
    except FileNotFoundError:
        raise CheckpointError(explain(f"{path} is not there", "a file of tensors is needed", "check the path")) from None
    except pickle.UnpicklingError:
        given = f"{path} is a pickle that holds more than tensors, or is damaged"
        raise CheckpointError(explain(given, "code in files is never run", "get it as .safetensors")) from None
    except (OSError, EOFError, RuntimeError, ValueError, SafetensorError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise CheckpointError(
            explain(f"{path} cannot be read ({reason})", "a file of tensors is needed", "fetch it anew")
        ) from None
