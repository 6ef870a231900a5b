"""The server's desk as the studio's counter: the two rooms know nothing of each other."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from pathlib import Path
from typing import TypeVar

from fastapi.concurrency import run_in_threadpool

from undiffuse.core.errors import Cancelled, UndiffuseError, explain
from undiffuse.generation.generator import Generator
from undiffuse.generation.request import Request
from undiffuse.serving.desk import Desk
from undiffuse.serving.live import LAST, told
from undiffuse.studio.counter import Shown, Waiting

DIALECT = "studio"
T = TypeVar("T")


class DeskCounter:
    """Hands jobs in at a desk; see `studio.counter.Counter`."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def models(self) -> list[str]:
        """The names of the models."""
        return list(self._desk.models.names)

    def loras(self) -> list[str]:
        """The names of the LoRAs that prompts may name."""
        return [] if self._desk.loras is None else list(self._desk.loras.files())

    async def draw(self, request: Request, model: str | None) -> AsyncIterator[Shown]:
        """Hand in a job and follow it.

        Raises:
            UndiffuseError: when it cannot be drawn, or was stopped.
        """
        live = await run_in_threadpool(self._desk.submit, request, model, DIALECT)
        follower = live.follow()
        job, files, preview = live.job.id, [], None
        over = False
        try:
            while not over:
                live.look = True  # a preview of the next step
                event = await follower.next()
                if event is None:
                    continue
                if event.kind == "preview":
                    preview = event.image
                elif event.kind == "picture" and event.kept is not None:
                    files, preview = [*files, self._desk.jobs.file(event.kept)], None
                over = event.kind in LAST
                if event.error is not None:
                    raise event.error if isinstance(event.error, UndiffuseError) else Cancelled(told(event.error))
                if event.kind == "closing":
                    raise Cancelled(explain("the server stops", "the job goes on when it is back"))
                yield Shown(job, live.share, preview, tuple(files), over)
        finally:
            follower.close()
            if not over:
                self._desk.drop(live)

    def waiting(self) -> list[Waiting]:
        """Jobs that are not finished."""
        rows = list(self._desk.live.values())
        return [
            Waiting(one.job.id, one.state, f"{one.share:.0%}", one.job.model, one.request.prompt, one.job.dialect)
            for one in rows
        ]

    def cancel(self, job: str) -> bool:
        """End a job."""
        return self._desk.cancel(job)

    def pictures(self, limit: int) -> list[Path]:
        """The files of the latest pictures."""
        return [self._desk.jobs.file(picture) for picture in self._desk.jobs.pictures(limit=limit)]

    def alone(self, model: str | None, act: Callable[[Generator], T]) -> Future[T]:
        """Have something done while nothing is drawn."""
        return self._desk.engine.alone(self._desk.models.find(model).name, act)

    def meanwhile(self, draw: Generator) -> None:
        """Let jobs go on by a step."""
        self._desk.engine.meanwhile(draw)
