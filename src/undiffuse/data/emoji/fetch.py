"""Getting npm packages: one tarball a package, kept for the next run, read without unpacking."""

from __future__ import annotations

import json
import shutil
import subprocess
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from undiffuse.core.errors import DataError, DependencyError, explain
from undiffuse.data.emoji.sources import Package

FETCH_SECONDS = 600


def fetch_package(package: Package, folder: Path) -> Path:
    """The package's tarball in `folder`, fetched with `npm pack` when it is not there yet.

    Raises:
        DependencyError: npm is not installed.
        DataError: npm could not fetch the package.
    """
    wanted = folder / package.tarball
    if wanted.exists():
        return wanted
    npm = shutil.which("npm")
    if npm is None:
        raise DependencyError(
            explain(
                f"the program npm is needed to fetch {package} and was not found",
                "it comes with Node.js",
                f"install Node.js, or put {package.tarball} into {folder} by hand",
            )
        )
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder, prefix=".partial-") as partial:
        failure = _pack(npm, package, partial)
        fetched = Path(partial, package.tarball)
        if failure or not fetched.exists():
            raise DataError(
                explain(
                    f"npm could not fetch {package}: {failure or 'it wrote no file'}",
                    "the build needs every package in its list",
                    f"run the same command again when the network is back, or put {package.tarball} into {folder} by hand",
                )
            )
        fetched.replace(wanted)
    return wanted


def _pack(npm: str, package: Package, folder: str) -> str:
    """Run `npm pack`; what went wrong, in one line, or ""."""
    command = [npm, "pack", str(package), "--pack-destination", folder, "--silent"]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=FETCH_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return f"no answer within {FETCH_SECONDS} s"
    complaint = (ran.stderr or ran.stdout).strip() or f"exit code {ran.returncode}"
    return complaint.splitlines()[0] if ran.returncode else ""


class Tarball:
    """The files of one npm tarball, read on demand; paths are relative to its `package/` folder.

    Raises:
        DataError: the file is no readable tarball.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._files: dict[str, bytes] = {}
        try:
            with tarfile.open(path, "r:gz") as tar:
                for member in tar:
                    reader = tar.extractfile(member)
                    if reader is not None:
                        self._files[member.name.partition("/")[2]] = reader.read()
        except (tarfile.TarError, EOFError, OSError) as error:
            raise DataError(
                explain(f"{path} cannot be read ({error})", "it should be an npm tarball", "delete it and run the build again")
            ) from None

    def names(self, suffix: str = "") -> list[str]:
        """Paths that end with `suffix`, sorted."""
        return sorted(name for name in self._files if name.endswith(suffix))

    def read(self, name: str) -> bytes:
        """The bytes of one file.

        Raises:
            DataError: there is no such file in the tarball.
        """
        if name not in self._files:
            raise DataError(explain(f"{self.path.name} holds no file {name!r}", "it should", "delete it and run again"))
        return self._files[name]

    def json(self, name: str) -> Any:
        """One JSON file, parsed."""
        return json.loads(self.read(name))
