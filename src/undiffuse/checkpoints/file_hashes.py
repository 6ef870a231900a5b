"""The hashes that other programs name LoRAs and learned words by."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from undiffuse.checkpoints.foreign_tensors import PICKLES

CHUNK = 1 << 20
KOHYA_HASH = "sshs_model_hash"


def whole_hash(path: Path) -> str:
    """SHA-256 of the file, in hex digits."""
    return _hash(path, 0)


def lora_hash(path: Path, header: Mapping[str, str]) -> str:
    """The hash that others name a LoRA by: the one in its header, else SHA-256 of all that follows the header."""
    if KOHYA_HASH in header:
        return header[KOHYA_HASH]
    if path.suffix.lower() in PICKLES:
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
