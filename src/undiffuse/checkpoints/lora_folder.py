"""LoRAs of a folder, by the names that prompts call them by."""

from __future__ import annotations

import difflib
from pathlib import Path

from undiffuse.checkpoints.foreign_tensors import READ
from undiffuse.core.errors import UsageError, explain

NEAR = 3  # names that are told when one is not there


class LoraFolder:
    """The LoRAs in a folder and the folders in it, each by the name of its file without the ending.

    Raises:
        UsageError: when there is no such folder.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise UsageError(explain(f"no folder {str(folder)!r}", "a folder of LoRAs is needed", "check the path"))

    def files(self) -> dict[str, Path]:
        """What there is now, by name; of two of one name the deeper is called by its path in the folder, as `sub/name`."""
        found: dict[str, Path] = {}
        for path in sorted(self.folder.rglob("*"), key=lambda path: (len(path.parts), path)):
            if path.suffix.lower() in READ and path.is_file():
                inside = path.relative_to(self.folder).with_suffix("").as_posix()
                found.setdefault(inside if path.stem in found else path.stem, path)
        return found

    def find(self, name: str) -> Path:
        """The file of this name; if none is spelled so, one whose letters differ in case alone.

        Raises:
            UsageError: when there is none, with names that are near.
        """
        files = self.files()
        if name in files:
            return files[name]
        alike = next((path for known, path in files.items() if known.lower() == name.lower()), None)
        if alike is not None:
            return alike
        near = difflib.get_close_matches(name, files, NEAR, 0.4) or list(files)[:NEAR]
        allowed = (
            f"there are {', '.join(near)}{' and others' if len(files) > len(near) else ''}" if near else "there is none at all"
        )
        raise UsageError(explain(f"no LoRA {name!r} in the folder of LoRAs", allowed, "check the spelling"))
