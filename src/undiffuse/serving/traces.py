"""`Traces`: pictures of the library drawn once more with everything recorded, a file each."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from pathlib import Path
from typing import NamedTuple

from undiffuse.core.errors import Busy, Cancelled, DataError, TimedOut, explain
from undiffuse.explain.recording import record
from undiffuse.explain.trace import Trace, read_trace, write_trace
from undiffuse.generation.generator import Generator
from undiffuse.generation.output import open_folder
from undiffuse.generation.request import Request
from undiffuse.serving.engine import Engine
from undiffuse.serving.jobs import NAME

MOST = 8  # recordings that wait, of everybody together
ENDING = ".trace"


class Kept(NamedTuple):
    """A trace that is there: its name, the bytes of its file, and when it was written, in seconds since 1970."""

    name: str
    bytes: int
    created: float


class Recording:
    """A recording that is asked for: whoever waits for it may leave, and then it ends before its next step."""

    def __init__(self, seconds: float) -> None:
        self.done: Future[Path] = Future()
        self._deadline = time.monotonic() + seconds
        self._left = threading.Event()

    def leave(self) -> None:
        """Nobody waits any more."""
        self._left.set()

    def go_on(self, done: int = 0, steps: int = 0) -> None:
        """Called before the first step and after every one.

        Raises:
            Cancelled: when nobody waits any more.
            TimedOut: when it took too long.
        """
        if self._left.is_set():
            raise Cancelled(explain("the recording was cancelled", "nobody waits for it"))
        if time.monotonic() > self._deadline:
            raise TimedOut(explain("the recording took too long", "the server's time limit ended it", "record fewer steps"))


class Traces:
    """The traces in a folder, which is made when missing; each has the name of its picture.

    Args:
        folder: where they are kept.
        engine: whose thread records.
        seconds: that a recording may take, from when it is asked for.
    """

    def __init__(self, folder: Path, engine: Engine, seconds: float) -> None:
        self._folder = open_folder(folder)
        self._engine = engine
        self._seconds = seconds
        self._open: set[Recording] = set()
        self._lock = threading.Lock()

    def record(self, name: str, request: Request, model: str) -> Recording:
        """Draw a picture again, by the request that it was drawn by, and keep its trace; one that is there is overwritten.

        Jobs go on between its steps.

        Raises:
            Busy: when too many wait already.
        """
        recording = Recording(self._seconds)
        with self._lock:
            if len(self._open) >= MOST:
                given, allowed = f"{MOST} recordings wait already", "no more are taken at once"
                raise Busy(explain(given, allowed, "try again later"))
            self._open.add(recording)

        def act(draw: Generator) -> Path:
            def tell(done: int, steps: int) -> None:
                recording.go_on(done, steps)
                self._engine.meanwhile(draw)

            recording.go_on()
            return write_trace(record(draw, request, tell=tell), self.path(name))

        recording.done = self._engine.alone(model, act)
        recording.done.add_done_callback(lambda _: self._open.discard(recording))
        return recording

    def all(self) -> list[Kept]:
        """Those that are there, the newest first."""
        names = [path.stem for path in self._folder.glob(f"*{ENDING}") if NAME.fullmatch(path.stem)]
        found = [kept for name in names if (kept := self.kept(name)) is not None]
        return sorted(found, key=lambda kept: kept.created, reverse=True)

    def kept(self, name: str) -> Kept | None:
        """What there is under this name."""
        try:
            file = self.path(name).stat()
        except FileNotFoundError:
            return None
        return Kept(name, file.st_size, file.st_mtime)

    def read(self, name: str) -> Trace | None:
        """The trace of this name, if it is there."""
        try:
            return read_trace(self.path(name))
        except DataError:
            return None

    def path(self, name: str) -> Path:
        """Where the trace of a picture lies."""
        assert NAME.fullmatch(name)  # names are those of pictures, made by the server; nothing of a client's becomes a path
        return self._folder / f"{name}{ENDING}"

    def forget(self, name: str) -> None:
        """Delete a trace."""
        self.path(name).unlink(missing_ok=True)

    def close(self) -> None:
        """End those that wait."""
        for recording in list(self._open):
            recording.leave()
