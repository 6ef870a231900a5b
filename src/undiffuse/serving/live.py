"""`Live`: a job that is not finished, as those who wait for it see it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from PIL import Image

from undiffuse.core.errors import Cancelled, UndiffuseError
from undiffuse.generation.request import Request
from undiffuse.serving.jobs import Job, Jobs, Picture, State

Kind = Literal["step", "preview", "picture", "end", "closing"]
LAST = ("end", "closing")


@dataclass(frozen=True)
class Event:
    """What happened to a job. `picture` counts from 0; `done` of `steps` steps of it are taken."""

    kind: Kind
    picture: int = 0
    done: int = 0
    steps: int = 0
    image: Image.Image | None = None
    kept: Picture | None = None
    state: State | None = None
    error: Exception | None = None


class Follower:
    """Somebody who waits for the events of a job, in an event loop; whoever is done must `close`."""

    def __init__(self, among: list[Follower], before: Sequence[Event]) -> None:
        self._among = among
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        for event in before:
            self._events.put_nowait(event)

    def hear(self, event: Event) -> None:
        """Take an event, from any thread."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)

    async def next(self, seconds: float | None = None) -> Event | None:
        """The next event; None when there is none for so long."""
        try:
            return await asyncio.wait_for(self._events.get(), seconds)
        except TimeoutError:
            return None

    def close(self) -> None:
        """Hear nothing more."""
        if self in self._among:
            self._among.remove(self)


@dataclass(eq=False)
class Live:
    """Hears of a job from the engine, keeps it, and tells those who follow.

    `previews` is how many previews of picture 0 everybody gets, spread evenly over its steps; `look` asks for one
    of whatever is drawn next. Who comes late is told of pictures and such previews all the same.
    """

    job: Job
    jobs: Jobs
    forget: Callable[[Live], None]
    previews: int = 0
    look: bool = False
    preview: Image.Image | None = None
    request: Request = field(init=False)
    progress: dict[int, tuple[int, int]] = field(default_factory=dict)
    kept: int = 0
    begun: float | None = None
    state: State = "queued"
    error: Exception | None = None
    _remembered: list[Event] = field(default_factory=list)
    _followers: list[Follower] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.request = self.job.request

    @property
    def share(self) -> float:
        """Share of all steps that are taken, 0 to 1."""
        told = list(self.progress.values())
        return sum(done / steps for done, steps in told) / self.request.count

    @property
    def seconds_left(self) -> float:
        """A guess at the seconds that it still takes; 0 while nothing is known."""
        if self.begun is None or not self.share:
            return 0.0
        return (time.time() - self.begun) * (1 - self.share) / self.share

    def started(self, request: Request) -> None:
        """The engine begins with it."""
        self.request, self.state, self.begun = request, "running", time.time()
        self.jobs.started(self.job.id, request)

    def stepped(self, picture: int, done: int, steps: int, preview: Callable[[], Image.Image]) -> None:
        """A picture came a step further."""
        self.progress[picture] = (done, steps)
        promised = picture == 0 and done in evenly(self.previews, steps)
        if self.look or promised:
            self.look, self.preview = False, preview()
            self._tell(Event("preview", picture, done, steps, image=self.preview), remember=promised)
        self._tell(Event("step", picture, done, steps))

    def finished(self, picture: int, image: Image.Image) -> None:
        """A picture is finished."""
        kept = self.jobs.keep(self.job.id, picture, self.request.each()[picture].seed, image)
        self.kept += 1
        self._tell(Event("picture", picture, kept=kept), remember=True)

    def ended(self, error: Exception | None) -> None:
        """Nothing more will come."""
        self.error = error
        self.state = "done" if error is None else "cancelled" if type(error) is Cancelled else "failed"
        self.jobs.ended(self.job.id, self.state, None if error is None else told(error))
        self.forget(self)
        self._tell(Event("end", state=self.state, error=error), remember=True)

    def closing(self) -> None:
        """The server stops; the job will be run again."""
        self._tell(Event("closing"), remember=True)

    def follow(self) -> Follower:
        """Hear every event to the last one; of those that were before, pictures and promised previews."""
        with self._lock:
            follower = Follower(self._followers, self._remembered)
            self._followers.append(follower)
        return follower

    def _tell(self, event: Event, remember: bool = False) -> None:
        with self._lock:
            if remember:
                self._remembered.append(event)
            for follower in list(self._followers):
                follower.hear(event)


def told(error: Exception) -> str:
    """An error in a line for clients: ours as it is, of any other its kind alone, for it may name files."""
    return str(error) if isinstance(error, UndiffuseError) else f"the server failed ({type(error).__name__})"


def evenly(count: int, steps: int) -> frozenset[int]:
    """`count` numbers of steps, spread over `steps`, the last step not among them."""
    return frozenset(step for k in range(1, count + 1) if 0 < (step := k * steps // (count + 1)) < steps)
