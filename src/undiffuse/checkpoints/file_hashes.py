"""The hashes that other programs name models, LoRAs and learned words by."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from undiffuse.checkpoints.headers import PICKLES

CHUNK = 1 << 20
KOHYA_HASH = "sshs_model_hash"
OLD_SPAN = 0x10000


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


def hashes_of(path: Path) -> dict[str, str]:
    """What others write for a file: SHA-256, its first ten digits ("Model hash", AutoV2), AutoV1, and for .safetensors AutoV3.

    AutoV1 is A1111's first hash, of 64 KiB behind the first MiB; AutoV3 is kohya's, of all that follows the header.
    """
    whole = whole_hash(path)
    with path.open("rb") as file:
        file.seek(CHUNK)
        old = hashlib.sha256(file.read(OLD_SPAN)).hexdigest()[:8]
    found = {"sha256": whole, "model hash": whole[:10], "AutoV1": old}
    return found if path.suffix.lower() in PICKLES else found | {"AutoV3": lora_hash(path, {})[:12]}


def _hash(path: Path, start: int) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        file.seek(start)
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
