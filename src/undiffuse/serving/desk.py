"""`Desk`: where all dialects hand in their jobs. One queue, one library, one engine."""

from __future__ import annotations

import threading
import time

from undiffuse.checkpoints.lora_folder import LoraFolder
from undiffuse.core.errors import Busy, explain
from undiffuse.generation.request import Request
from undiffuse.serving.engine import Engine, Work
from undiffuse.serving.jobs import Job, Jobs, Picture
from undiffuse.serving.limits import Limits
from undiffuse.serving.live import Live
from undiffuse.serving.models import Models
from undiffuse.serving.traces import Recording, Traces


class Desk:
    """Takes jobs, cancels them, and knows those that are not finished.

    Args:
        jobs: where everything is kept; jobs in there that a crash interrupted are taken up again.
        models: what may be asked for.
        limits: how much of it.
        batch: pictures that share a call of the network, at most.
        loras: what prompts may name.
    """

    def __init__(
        self, jobs: Jobs, models: Models, limits: Limits | None = None, batch: int = 8, loras: LoraFolder | None = None
    ) -> None:
        self.jobs = jobs
        self.loras = loras
        self.models = models
        self.limits = limits or Limits()
        self.engine = Engine(models.generator, batch, self.limits.check)
        self.traces = Traces(jobs.folder / "traces", self.engine, self.limits.seconds)
        models.asked, models.drawing = self.engine.asked, self.engine.drawing
        self.live: dict[str, Live] = {}
        self.taken = {"done": 0, "failed": 0, "cancelled": 0, "refused": 0}
        self.closing = False
        self._lock = threading.Lock()

    def open(self) -> None:
        """Begin to work, with what was interrupted."""
        for job in self.jobs.interrupted():
            there = frozenset(picture.place for picture in self.jobs.pictures(job.id))
            with self._lock:
                live = self._live(job)
            live.kept = len(there)
            self._submit(live, there)
        self.engine.start()

    def close_door(self) -> None:
        """Take nothing more, and send away everybody who waits: their jobs are run when the server is back."""
        self.closing = True
        for live in list(self.live.values()):
            live.closing()
        self.traces.close()

    def close(self) -> None:
        """Stop after the step that is under way."""
        self.close_door()
        self.engine.stop()
        self.models.close()
        self.jobs.close()

    def submit(self, request: Request, model: str | None = None, dialect: str = "api", previews: int = 0) -> Live:
        """Take a job; it is safe when this returns.

        Args:
            request: what to draw.
            model: its name; None for the first one.
            dialect: who asks, for the record.
            previews: how many previews of the first picture those who follow get, spread evenly over its steps.

        Raises:
            Busy: when there is too much to do already.
            SpecError, DataError: when the request goes beyond a limit, or a loaded model cannot draw it.
            CheckpointError: when there is no such model.
        """
        self.limits.check(request)
        name = self.models.find(model).name
        draw = self.models.loaded(name)
        if draw is not None:
            request = draw.settle(request)
            self.limits.check(request)
        with self._lock:
            if self.closing or len(self.live) >= self.limits.queue:
                self.taken["refused"] += 1
                given = "the server is stopping" if self.closing else f"{len(self.live)} jobs wait already"
                raise Busy(explain(given, f"up to {self.limits.queue} are taken", "try again later"))
            live = self._live(self.jobs.add(request, name, dialect), previews)
        self._submit(live)
        return live

    def cancel(self, name: str) -> bool:
        """End a job; False when it is over already, or there is none."""
        there = name in self.live
        self.engine.cancel(name)
        return there

    def drop(self, live: Live) -> None:
        """Whoever waited for a job is gone: end it, unless it is the server that goes."""
        if not self.closing:
            self.cancel(live.job.id)

    def record(self, picture: Picture, job: Job) -> Recording:
        """Have a picture of a job drawn again, and everything recorded.

        Raises:
            Busy: when there is too much to do already.
            CheckpointError: when its model is not there any more.
        """
        if self.closing:
            raise Busy(explain("the server is stopping", "nothing more is recorded", "ask when it is back"))
        return self.traces.record(picture.name, job.request.each()[picture.place], self.models.find(job.model).name)

    def oldest(self, dialect: str | None = None) -> Live | None:
        """Of the unfinished jobs, or those of a dialect, the one that came first."""
        return next((live for live in list(self.live.values()) if dialect in (None, live.job.dialect)), None)

    def _live(self, job: Job, previews: int = 0) -> Live:
        live = Live(job, self.jobs, self._forget, previews)
        self.live[job.id] = live
        return live

    def _submit(self, live: Live, there: frozenset[int] = frozenset()) -> None:
        deadline = time.monotonic() + self.limits.seconds
        self.engine.submit(Work(live.job.id, live.job.model, live.job.request, live, there, deadline))

    def _forget(self, live: Live) -> None:
        with self._lock:
            self.live.pop(live.job.id, None)
            self.taken[live.state] += 1
