"""The engine: one thread that owns a device, and draws the pictures of all jobs together.

In every turn it answers the pending questions of up to `batch` pictures in one call of the network: the jobs that have
waited longest first, one picture of each in turn, and with them whatever else has the same model and shapes, at whatever
step, with whatever solver and guidance. A new job so has its first step in the next turn.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Generic, Protocol, TypeVar

import torch
from PIL import Image
from torch import Tensor

from undiffuse.core.errors import Cancelled, TimedOut, UndiffuseError, UsageError, explain
from undiffuse.core.pictures import to_images
from undiffuse.generation.generator import Generator
from undiffuse.generation.lora_tags import Tag, tags_of
from undiffuse.generation.request import Request
from undiffuse.serving.asking import Kin, answer
from undiffuse.serving.drawing import Drawing

LOG = logging.getLogger("undiffuse.serving")
IDLE = 0.05  # seconds between looks at whether a model is there


class Listener(Protocol):
    """What hears of a job; everything is called from the engine's thread and must be quick."""

    def started(self, request: Request) -> None:
        """The first picture is begun; this is the request with everything filled in."""
        ...

    def stepped(self, picture: int, done: int, steps: int, preview: Callable[[], Image.Image]) -> None:
        """A picture came a step further; `preview` decodes what it looks like so far."""
        ...

    def finished(self, picture: int, image: Image.Image) -> None:
        """A picture is finished."""
        ...

    def ended(self, error: Exception | None) -> None:
        """Nothing more will come: all pictures are finished, or this is why not."""
        ...


T = TypeVar("T")
Models = Callable[[str], Generator | None]
"""The generator of a model; None while it is being loaded. Raises an UndiffuseError when there is none."""


@dataclass(eq=False)
class Work:
    """One job as the engine sees it: its pictures, those that are begun, and the turn in which it was served last."""

    name: str
    model: str
    request: Request
    listener: Listener
    skip: frozenset[int] = frozenset()
    deadline: float = float("inf")
    draw: Generator | None = None
    waiting: deque[tuple[int, Request]] = field(default_factory=deque)
    flying: list[tuple[int, Drawing]] = field(default_factory=list)
    served: int = -1
    tags: tuple[Tag, ...] = ()
    cancelled: bool = False
    skipping: bool = False

    @property
    def over(self) -> bool:
        """Whether there is nothing left to draw."""
        return self.draw is not None and not (self.waiting or self.flying)


@dataclass(frozen=True)
class _Favour(Generic[T]):
    model: str
    act: Callable[[Generator], T]
    done: Future[T]


class Engine:
    """Draws jobs together, in a thread of its own.

    Args:
        models: finds the generator of a model by name.
        batch: how many pictures share a call of the network, at most.
        check: refuses requests, which it gets with everything filled in.

    Raises:
        UsageError: when `batch` is below 1.
    """

    def __init__(self, models: Models, batch: int = 8, check: Callable[[Request], None] = lambda request: None) -> None:
        if batch < 1:
            raise UsageError(explain(f"batch = {batch}", "1 or more pictures at once are possible"))
        self.batch = batch
        self.calls = 0  # of the network
        self.rows = 0  # pictures in them
        self._models = models
        self._check = check
        self._works: list[Work] = []
        self._favours: deque[_Favour[Any]] = deque()
        self._doing: _Favour[Any] | None = None
        self._turns = count()
        self._changed = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def stop(self) -> None:
        """Stop after the turn that is under way; jobs that are not finished are told of nothing."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join()

    def submit(self, work: Work) -> None:
        """Have a job drawn: its first step comes within the next turn."""
        with self._changed:
            self._works.append(work)
            self._changed.notify()

    def cancel(self, name: str) -> None:
        """End a job before its next step; nothing happens when there is none of this name."""
        with self._changed:
            for work in self._works:
                work.cancelled = work.cancelled or work.name == name

    def skip(self, name: str) -> None:
        """Leave the pictures of a job that are under way, and go on with its others."""
        with self._changed:
            for work in self._works:
                work.skipping = work.skipping or work.name == name

    def alone(self, model: str, act: Callable[[Generator], T]) -> Future[T]:
        """Have something done with the generator of a model between two turns, while nothing is drawn with it.

        What takes longer than a step calls `meanwhile` whenever the others may go on.
        """
        favour: _Favour[T] = _Favour(model, act, Future())
        with self._changed:
            self._favours.append(favour)
            self._changed.notify()
        return favour.done

    def meanwhile(self, draw: Generator) -> None:
        """Serve the jobs once; to be called by what is done `alone` with `draw`, between two of its own steps.

        Raises:
            Cancelled: when the engine stops.
        """
        if self._stopping:
            raise Cancelled(explain("the server stops", "what was asked for beside jobs ends"))
        self._serve()
        draw.wardrobe.wear()  # as it was

    def asked(self) -> set[str]:
        """Names of the models that unfinished jobs need, and what is done beside them."""
        return {one.model for one in (*list(self._works), *list(self._favours))} | self._busy()

    def drawing(self) -> set[str]:
        """Names of the models that begun jobs draw with, and what is done beside them."""
        return {work.model for work in list(self._works) if work.draw is not None} | self._busy()

    def _busy(self) -> set[str]:
        favour = self._doing
        return set() if favour is None else {favour.model}

    def _run(self) -> None:
        while True:
            with self._changed:
                while not (self._works or self._favours or self._stopping):
                    self._changed.wait()
                if self._stopping:
                    return
            if not self.turn():
                time.sleep(IDLE)

    def turn(self) -> bool:
        """Do the next thing that was asked for beside jobs, and serve those; False when there was nothing to do."""
        did = self._do_favour()
        return self._serve() or did

    def _serve(self) -> bool:
        """Bring the jobs that have waited longest one step further; False when there was nothing to do."""
        try:
            return self._step()
        except Exception as error:  # a fault of ours: it must not stop the engine for those who come later
            LOG.exception("a turn failed; every job that was under way ends")
            for work in list(self._works):
                self._end(work, error)
            return True

    def _step(self) -> bool:
        for work in list(self._works):
            self._look_after(work)
        picked = self._picked()
        if not picked:
            return False
        now = next(self._turns)
        for work, _, _ in picked:
            work.served = now
        self.calls += 1
        self.rows += len(picked)
        self._answer(picked)
        for work in {id(work): work for work, _, _ in picked}.values():
            if work.over:
                self._end(work, None)
        return True

    def _do_favour(self) -> bool:
        """Do the first thing that was asked for beside jobs; False when there is none, or its model is being loaded."""
        if not self._favours:
            return False
        favour = self._favours[0]
        draw: Generator | Exception | None = None
        if not favour.done.cancelled():
            try:
                draw = self._models(favour.model)
            except Exception as error:  # whoever asked is told
                draw = error
            if draw is None:
                return False
        self._doing = favour
        self._favours.popleft()
        if favour.done.set_running_or_notify_cancel():  # from here on nobody can take it back
            try:
                if not isinstance(draw, Generator):
                    raise draw  # type: ignore[misc]
                draw.wardrobe.wear()
                favour.done.set_result(favour.act(draw))
            except Exception as error:
                favour.done.set_exception(error)
        self._doing = None
        return True

    def _look_after(self, work: Work) -> None:
        """End a job that was cancelled, or is late; give it its generator when that has come."""
        if work.cancelled:
            self._end(work, Cancelled(explain("the job was cancelled", "somebody asked to stop")))
        elif time.monotonic() > work.deadline:
            self._end(work, TimedOut(explain("the job took too long", "the server's time limit ended it", "ask for less")))
        elif work.draw is None:
            with self._failing(work):
                draw = self._models(work.model)
                if draw is not None:
                    request = draw.settle(work.request)
                    work.tags = tags_of(request)
                    self._check(request)
                    work.waiting.extend((k, one) for k, one in enumerate(request.each()) if k not in work.skip)
                    work.draw = draw
                    work.listener.started(request)
        elif work.skipping:
            work.skipping = False
            work.flying.clear()
        if work.over:
            self._end(work, None)

    def _picked(self) -> list[tuple[Work, int, Drawing]]:
        """Pictures whose questions go together, those of the job that has waited longest among them."""
        picked: list[tuple[Work, int, Drawing]] = []
        ready = sorted((work for work in self._works if work.draw is not None), key=lambda work: work.served)
        ready = [work for work in ready if work.served < 0] or ready  # who has just come gets a small and so a quick call
        candidates = {id(work): self._pictures(work) for work in ready}
        kin: tuple[object, Kin | None] | None = None  # generator and LoRAs, and what questions have in common
        while candidates and len(picked) < self.batch:
            for work in ready:
                if id(work) not in candidates or len(picked) == self.batch:
                    continue
                if kin is not None and (work.draw, work.tags) != kin[0]:
                    del candidates[id(work)]
                    continue
                found = next(candidates[id(work)], None)
                if found is None:
                    del candidates[id(work)]
                    continue
                index, drawing = found
                own = None if drawing.question is None else drawing.question.kin
                if kin is None:
                    kin = ((work.draw, work.tags), own)
                elif own is None or own != kin[1]:
                    del candidates[id(work)]  # all pictures of a job are alike in that
                    continue
                picked.append((work, index, drawing))
                if own is None:  # drawn by calls of its own
                    return picked
        return picked

    def _pictures(self, work: Work) -> Iterator[tuple[int, Drawing]]:
        """Pictures of a job, begun ones first; others are begun when asked for."""
        assert work.draw is not None
        yield from list(work.flying)
        while work.waiting:
            index, request = work.waiting.popleft()
            with self._failing(work):
                work.draw.wardrobe.wear(work.tags)
                work.flying.append((index, Drawing(request, work.draw.model, work.draw.refiner)))
            if work.flying:  # else it failed, and the job with it
                yield work.flying[-1]

    def _answer(self, picked: Sequence[tuple[Work, int, Drawing]]) -> None:
        """One call for all; when it fails each picture gets one of its own, so that only the guilty job ends."""
        first = picked[0][0]
        assert first.draw is not None
        try:
            first.draw.wardrobe.wear(first.tags)
        except UndiffuseError as error:  # a file that is gone, for instance
            for work in {id(work): work for work, _, _ in picked}.values():
                self._end(work, error)
            return
        asked = [drawing.question for _, _, drawing in picked if drawing.question is not None]
        if len(asked) < len(picked):  # the one that is drawn alone
            work, index, drawing = picked[0]
            with self._failing(work):
                before = drawing.done
                drawing.ask_alone()
                self._tell(work, index, drawing, before)
            return
        denoise = first.draw.model.denoiser
        answers: list[Tensor] | None = None
        if len(asked) > 1:
            try:
                answers = answer(asked, denoise)
            except (RuntimeError, UndiffuseError):  # out of memory, most likely
                answers = None
        for place, (work, index, drawing) in enumerate(picked):
            if work not in self._works:
                continue
            with self._failing(work):
                before = drawing.done
                drawing.told(answers[place] if answers is not None else answer([asked[place]], denoise)[0])
                self._tell(work, index, drawing, before)

    def _tell(self, work: Work, index: int, drawing: Drawing, before: int) -> None:
        """Tell the listener of a step that was taken, and of a picture that is finished."""
        assert work.draw is not None
        if drawing.done == before:  # some solvers ask twice in a step
            return
        model, x0 = work.draw.model, drawing.x0
        assert x0 is not None
        work.listener.stepped(index, drawing.done, drawing.steps, lambda: _preview(model.codec.preview, x0))
        if drawing.latent is not None:
            image = work.draw.finish(drawing.latent, [drawing.request])[0]
            work.flying.remove((index, drawing))
            work.listener.finished(index, image)

    def _end(self, work: Work, error: Exception | None) -> None:
        with self._changed:
            if work not in self._works:
                return
            self._works.remove(work)
        work.flying.clear()
        work.waiting.clear()
        if error is not None and not isinstance(error, UndiffuseError):
            LOG.error("job %s failed", work.name, exc_info=error)
        try:
            work.listener.ended(error)
        except Exception:  # the disk is full, for instance
            LOG.exception("the end of job %s could not be told", work.name)

    def _failing(self, work: Work) -> _Failing:
        return _Failing(lambda error: self._end(work, error))


class _Failing:
    """An error inside ends one job, not the engine."""

    def __init__(self, end: Callable[[Exception], None]) -> None:
        self._end = end

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if not isinstance(error, Exception):
            return False
        self._end(error)
        return True


@torch.no_grad()
def _preview(decode: Callable[[Tensor], Tensor], x0: Tensor) -> Image.Image:
    return to_images(decode(x0))[0]
