"""Where the bytes of a picture lie: a file of its own, or a stretch of a tar shard."""

from __future__ import annotations

import tarfile
from dataclasses import dataclass
from pathlib import Path

from undiffuse.core.errors import DataError, explain
from undiffuse.data.records import Problem


@dataclass(frozen=True)
class Place:
    """A file, or `size` bytes of it from `offset`; `name` is what messages call it."""

    name: str
    path: Path
    offset: int = 0
    size: int = -1

    def read(self) -> bytes:
        """The bytes.

        Raises:
            DataError: the file is gone or cannot be read.
        """
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset)
                return file.read(self.size)
        except OSError as error:
            given = f"{self.name} cannot be read ({error.strerror})"
            raise DataError(explain(given, "the data set needs it", "put it back, or take it off the list")) from None


def tar_members(path: Path) -> tuple[dict[str, Place], list[Problem]]:
    """The files in a tar by name, in its order; a damaged tar gives those before the damage, and a problem."""
    found: dict[str, Place] = {}
    damage = ""
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                if member.isfile():
                    found[member.name] = Place(f"{path.name}:{member.name}", path, member.offset_data, member.size)
            damage = _damage_after(path, tar.offset)
    except (tarfile.TarError, OSError) as error:
        damage = str(error)
    if not damage:
        return found, []
    length = path.stat().st_size
    whole = {name: place for name, place in found.items() if place.offset + place.size <= length}
    return whole, [Problem(path.name, f"damaged tar after {len(whole)} files ({damage})")]


def _damage_after(path: Path, offset: int) -> str:
    """What is wrong with the end of a tar, which the library takes for a plain end: it should be zeros or nothing."""
    with path.open("rb") as file:
        file.seek(offset)
        return "no file header where one should be" if any(file.read(tarfile.BLOCKSIZE)) else ""
