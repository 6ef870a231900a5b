"""Writing and re-reading tar shards in the WebDataset layout, with bytes that depend on the content only."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Sample = tuple[dict[str, Any], dict[str, bytes]]
"""A row, and its files by name."""


def write_shard(path: Path, samples: Iterable[Sample]) -> int:
    """Write rows and their files in the order given, to a temporary name first; returns how many rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".part")
    count = 0
    with tarfile.open(partial, "w", format=tarfile.USTAR_FORMAT) as tar:
        for row, files in samples:
            for name, data in files.items():
                _add(tar, name, data)
            _add(tar, str(Path(row["file"]).with_suffix(".json")), json.dumps(row).encode())
            count += 1
    os.replace(partial, path)
    return count


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows inside a finished shard, in its order."""
    with tarfile.open(path) as tar:
        readers = (tar.extractfile(member) for member in tar if member.name.endswith(".json"))
        return [json.loads(reader.read()) for reader in readers if reader is not None]


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    info.mode = 0o644
    tar.addfile(info, io.BytesIO(data))
