"""Headers of safetensors files, read without torch: what is in a file, without the numbers."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from undiffuse.core.errors import CheckpointError, UnknownFormat, explain

PICKLES = (".ckpt", ".pt", ".pth", ".bin")
LONGEST_HEADER = 100_000_000
SCALE = ".int8_scale"  # what stands beside weights in 8 and in 4 bits
SCALES4, SHAPE4 = ".int4_scales", ".int4_shape"


def read_header(path: Path) -> dict[str, Any]:
    """The JSON header of a safetensors file: names, types, shapes and places of its tensors.

    Raises:
        CheckpointError: when the file is missing or cut short.
        UnknownFormat: when it is no safetensors file.
    """
    allowed = "a .safetensors file or a model folder is needed"
    if not path.is_file():
        raise CheckpointError(explain(f"{path} is not there", allowed, "check the path"))
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= length <= min(LONGEST_HEADER, size - 8):
            raise UnknownFormat(explain(f"{path} is no safetensors file", allowed))
        try:
            header = json.loads(file.read(length))
            end = max((tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__"), default=0)
        except (ValueError, TypeError, KeyError, AttributeError):
            raise UnknownFormat(explain(f"{path} is no safetensors file", allowed)) from None
    if end != size - 8 - length:
        given = f"{path} holds {size - 8 - length} bytes of tensors"
        raise CheckpointError(explain(given, f"its header tells of {end}", "fetch or write it again"))
    return header


def shapes_of(header: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """The shapes of all tensors by name."""
    return {name: tuple(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__"}
