"""`Jobs`: every job and every finished picture, kept in a folder so that they outlive a crash.

    jobs.sqlite          requests, states, what pictures there are
    pictures/ID-K.png    picture K of job ID; appears under its name when it is whole

Only one server works on a folder at a time.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from undiffuse.core.errors import UsageError, explain
from undiffuse.generation.output import open_folder
from undiffuse.generation.request import Request

State = Literal["queued", "running", "done", "failed", "cancelled"]
OVER = ("done", "failed", "cancelled")
NAME = re.compile(r"[0-9a-f]{16}-\d{1,5}")

TABLES = """
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY, state TEXT NOT NULL, model TEXT NOT NULL, dialect TEXT NOT NULL, request TEXT NOT NULL,
    created REAL NOT NULL, started REAL, ended REAL, error TEXT
);
CREATE TABLE IF NOT EXISTS pictures (
    name TEXT PRIMARY KEY, job TEXT NOT NULL REFERENCES jobs, place INTEGER NOT NULL, seed TEXT NOT NULL,
    width INTEGER NOT NULL, height INTEGER NOT NULL, created REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS pictures_by_age ON pictures (created);
CREATE INDEX IF NOT EXISTS pictures_by_job ON pictures (job, place);
CREATE INDEX IF NOT EXISTS jobs_by_state ON jobs (state, created);
"""


@dataclass(frozen=True)
class Job:
    """A job as it is kept. Times are seconds since 1970."""

    id: str
    state: State
    model: str
    dialect: str
    request: Request
    created: float
    started: float | None = None
    ended: float | None = None
    error: str | None = None


@dataclass(frozen=True)
class Picture:
    """A finished picture: picture `place` of its job; `name` is its name for clients, never a path."""

    name: str
    job: str
    place: int
    seed: int
    width: int
    height: int
    created: float

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.width, self.height


class Jobs:
    """The jobs in a folder, which is made when missing. Every method may be called from any thread.

    Raises:
        UsageError: when the folder cannot be written into, or another server works on it.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = open_folder(folder)
        self._files = open_folder(self.folder / "pictures")
        self._claim = (self.folder / "lock").open("w")
        try:
            fcntl.flock(self._claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._claim.close()
            given = f"another server works on {str(self.folder)!r}"
            raise UsageError(explain(given, "each needs a folder of its own", "name another one with --out")) from None
        self._lock = threading.Lock()
        self._base = sqlite3.connect(self.folder / "jobs.sqlite", check_same_thread=False, isolation_level=None)
        self._base.row_factory = sqlite3.Row
        self._base.execute("PRAGMA journal_mode = WAL")
        self._base.execute("PRAGMA synchronous = NORMAL")
        self._base.executescript(TABLES)
        for leftover in self._files.glob(".*.part"):
            leftover.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of the folder."""
        with self._lock:
            self._base.close()
        self._claim.close()

    def add(self, request: Request, model: str, dialect: str) -> Job:
        """Keep a new job; it is safe when this returns."""
        job = Job(secrets.token_hex(8), "queued", model, dialect, request, time.time())
        row = (job.id, job.state, model, dialect, request.to_json(), job.created)
        self._run("INSERT INTO jobs (id, state, model, dialect, request, created) VALUES (?, ?, ?, ?, ?, ?)", row)
        return job

    def started(self, name: str, request: Request) -> None:
        """The job is drawn now, by this request with everything filled in."""
        told = ("running", request.to_json(), time.time(), name)
        self._run("UPDATE jobs SET state = ?, request = ?, started = coalesce(started, ?) WHERE id = ?", told)

    def ended(self, name: str, state: State, error: str | None = None) -> None:
        """Nothing more will be drawn of the job."""
        self._run("UPDATE jobs SET state = ?, ended = ?, error = ? WHERE id = ?", (state, time.time(), error, name))

    def job(self, name: str) -> Job | None:
        """The job of this name."""
        rows = self._run("SELECT * FROM jobs WHERE id = ?", (name,))
        return _job(rows[0]) if rows else None

    def jobs(self, states: Iterable[str] = (), limit: int = 100, offset: int = 0) -> list[Job]:
        """Jobs in any of these states (in all by default), the newest first."""
        wanted = tuple(states) or (*OVER, "queued", "running")
        marks = ", ".join("?" * len(wanted))
        order = f"SELECT * FROM jobs WHERE state IN ({marks}) ORDER BY created DESC, rowid DESC LIMIT ? OFFSET ?"
        return [_job(row) for row in self._run(order, (*wanted, limit, offset))]

    def interrupted(self) -> list[Job]:
        """Jobs that are not finished, the oldest first: after a crash, those that are to be run again."""
        rows = self._run("SELECT * FROM jobs WHERE state IN ('queued', 'running') ORDER BY created, rowid")
        return [_job(row) for row in rows]

    def keep(self, name: str, place: int, seed: int, image: Image.Image) -> Picture:
        """Write a finished picture of a job: first whole under another name, then it is renamed, then it is told of."""
        picture = Picture(f"{name}-{place}", name, place, seed, image.width, image.height, time.time())
        partial = self._files / f".{picture.name}.part"
        with partial.open("wb") as file:
            image.save(file, "PNG")
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, self._files / f"{picture.name}.png")
        row = (picture.name, name, place, str(seed), image.width, image.height, picture.created)
        self._run("INSERT OR REPLACE INTO pictures VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        return picture

    def pictures(self, job: str | None = None, limit: int = 100, offset: int = 0) -> list[Picture]:
        """Finished pictures: of a job in order, or of all jobs, the newest first."""
        if job is not None:
            rows = self._run("SELECT * FROM pictures WHERE job = ? ORDER BY place", (job,))
        else:
            rows = self._run("SELECT * FROM pictures ORDER BY created DESC, name LIMIT ? OFFSET ?", (limit, offset))
        return [_picture(row) for row in rows]

    def picture(self, name: str) -> Picture | None:
        """The finished picture of this name."""
        rows = self._run("SELECT * FROM pictures WHERE name = ?", (name,))
        return _picture(rows[0]) if rows else None

    def file(self, picture: Picture) -> Path:
        """Where a finished picture lies."""
        assert NAME.fullmatch(picture.name)  # names are made here alone; nothing of a client's becomes a path
        return self._files / f"{picture.name}.png"

    def forget(self, picture: Picture) -> None:
        """Delete a finished picture."""
        self._run("DELETE FROM pictures WHERE name = ?", (picture.name,))
        self.file(picture).unlink(missing_ok=True)

    def _run(self, order: str, values: tuple[Any, ...] = ()) -> list[sqlite3.Row]:
        with self._lock:
            return self._base.execute(order, values).fetchall()


def _job(row: sqlite3.Row) -> Job:
    return Job(**{**dict(row), "request": Request.from_json(row["request"])})


def _picture(row: sqlite3.Row) -> Picture:
    return Picture(**{**dict(row), "seed": int(row["seed"])})
