"""`Models`: what may be asked for by name, loaded when first needed, the least recently used let go when memory is short."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from undiffuse.checkpoints.api import DEFAULT, default_folder, load_model
from undiffuse.checkpoints.diffusers_folder import is_diffusers_folder
from undiffuse.checkpoints.folder import SPEC
from undiffuse.checkpoints.single_file import is_single_file
from undiffuse.core.devices import give_back
from undiffuse.core.errors import CheckpointError, UsageError, explain
from undiffuse.generation.generator import Generator
from undiffuse.model.latent_diffusion import LatentDiffusion

Opened = Callable[[LatentDiffusion], Generator]


@dataclass(frozen=True)
class Shelved:
    """A model that may be asked for: its name for clients, where it lies, and the bytes of its files."""

    name: str
    path: Path
    bytes: int


class Models:
    """Models by name, and the generators of those that are loaded.

    Args:
        first: the model that is taken when a job names none: a folder, run, file or hub id; the embedded one for None.
        folder: everything in it that is a model may be asked for by the name of its file or folder.
        budget: bytes of weights that are held at once; the model that is needed is loaded however large it is.
        opened: makes the generator of a model.
        refiner: what `opened` has finish pictures, if anything; clients name it as they name models.

    Raises:
        UsageError: when the folder is none.
    """

    def __init__(
        self,
        first: str | None = None,
        folder: Path | None = None,
        budget: float = float("inf"),
        opened: Opened = Generator,
        refiner: str | None = None,
    ) -> None:
        self._opened = opened
        self._budget = budget
        self._source = first
        self._folder = folder
        self._loaded: OrderedDict[str, Future[Generator]] = OrderedDict()
        self._sizes: dict[str, int] = {}
        self._lock = threading.Lock()
        self._loader = ThreadPoolExecutor(1, "loader")
        self._fresh: set[str] = set()  # loaded or being loaded, and not taken by a job yet
        self._wanted: str | None = None  # waits for memory; until it has it no other model gets new jobs
        self.drawing: Callable[[], set[str]] = set
        self.asked: Callable[[], set[str]] = set
        self.names: dict[str, Shelved] = {}
        self.first = DEFAULT if first in (None, DEFAULT) else _plain(Path(str(first).rstrip("/")))
        self.refiner = None if refiner is None else _plain(Path(refiner.rstrip("/")))
        self.refresh()

    def refresh(self) -> None:
        """Look again at what there is."""
        path = default_folder() if self.first == DEFAULT else Path(str(self._source))
        found = {self.first: Shelved(self.first, path, _bytes(path))}
        if self._folder is not None:
            if not self._folder.is_dir():
                given = f"no folder {str(self._folder)!r}"
                raise UsageError(explain(given, "a folder that holds models is needed", "check the path"))
            for path in sorted(self._folder.iterdir()):
                if _is_model(path) and _plain(path) not in found:
                    found[_plain(path)] = Shelved(_plain(path), path, _bytes(path))
        self.names = found

    def find(self, name: str | None) -> Shelved:
        """The model that a client means; none named is the first one. A hash behind the name, as A1111 writes it, is dropped.

        Raises:
            CheckpointError: when there is none of this name; the message lists those that there are.
        """
        for candidate in _meant(name or self.first):
            for known, model in self.names.items():
                if candidate == known.lower():
                    return model
        raise CheckpointError(explain(f"no model {name!r}", f"there are: {', '.join(self.names)}", "ask for one of them"))

    def check_refiner(self, name: str) -> None:
        """Whether this is what finishes pictures here.

        Raises:
            CheckpointError: when it is not.
        """
        if self.refiner is None or self.refiner.lower() not in _meant(name):
            allowed = "there is none" if self.refiner is None else f"there is {self.refiner!r}"
            raise CheckpointError(explain(f"no refiner {name!r}", allowed, "a server has the one of its --refiner"))

    def loaded(self, name: str) -> Generator | None:
        """The generator of a model if it is loaded."""
        future = self._loaded.get(name)
        return future.result() if future is not None and future.done() and not future.exception() else None

    def generator(self, name: str) -> Generator | None:
        """The generator of a model; None while it is being loaded, which begins with the first call.

        Raises:
            CheckpointError, SpecError, DeviceError: when it cannot be loaded.
        """
        with self._lock:
            if self._wanted not in (None, name) and self._wanted in self.asked() and name not in self._fresh:
                return None
            future = self._loaded.get(name)
            if future is None:
                shelved = self.find(name)
                if not self._make_room(shelved.bytes):
                    self._wanted = name
                    return None
                self._sizes[name] = shelved.bytes
                self._fresh.add(name)
                future = self._loaded[name] = self._loader.submit(self._load, shelved)
            if name == self._wanted:
                self._wanted = None
            self._loaded.move_to_end(name)  # the youngest stands last
            if not future.done():
                return None
            self._fresh.discard(name)
            if future.exception() is not None:
                del self._loaded[name]  # the next job tries again
        return future.result()

    def let_go(self) -> None:
        """Drop every model that no job needs."""
        with self._lock:
            for name in self._idle():
                del self._loaded[name]

    def close(self) -> None:
        """Stop loading."""
        self._loader.shutdown(wait=True, cancel_futures=True)

    def _make_room(self, needed: int) -> bool:
        """Let go of models until this many bytes fit; False while jobs still need what is in the way."""
        for name in self._idle():
            if self._held() + needed <= self._budget:
                break
            del self._loaded[name]
        return self._held() + needed <= self._budget or not self._loaded

    def _idle(self) -> list[str]:
        """Loaded models that no job needs, the least recently used first."""
        needed = self.drawing() | (self._fresh & self.asked())
        return [name for name in self._loaded if name not in needed]

    def _held(self) -> int:
        return sum(self._sizes[name] for name in self._loaded)

    def _load(self, shelved: Shelved) -> Generator:
        source = self._source if shelved.name == self.first else shelved.path
        draw = self._opened(load_model(source))
        give_back()  # what the model before it held, and what reading this one took
        return draw


def _plain(path: Path) -> str:
    """A model's name for clients: that of its file without the ending, or of its folder."""
    return path.stem if path.suffix in (".safetensors", ".ckpt", ".pt", ".sft") else path.name


def _meant(name: str) -> tuple[str, str]:
    """What a client may mean by a name: it without the hash that A1111 writes behind, and without the ending of a file."""
    wanted = name.partition(" [")[0].lower()
    return wanted, wanted.rpartition(".")[0]


def _is_model(path: Path) -> bool:
    return is_single_file(path) or is_diffusers_folder(path) or any((at / SPEC).is_file() for at in (path, path / "model"))


def _bytes(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.suffix in (".safetensors", ".bin", ".ckpt"))
