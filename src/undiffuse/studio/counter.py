"""`Counter`: what the studio asks of whatever draws for it: models, jobs, the library. It has no model of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

from PIL import Image

from undiffuse.conditioners.labels import known_labels
from undiffuse.conditioners.maps import MapConditioner
from undiffuse.generation.generator import Generator
from undiffuse.generation.request import Request

T = TypeVar("T")


@dataclass(frozen=True)
class Shown:
    """How far a job is: the share of its steps, what its picture looks like, and the files of those that are finished."""

    job: str
    share: float
    preview: Image.Image | None = None
    files: tuple[Path, ...] = ()
    over: bool = False


class Waiting(NamedTuple):
    """A job that is not finished, as a row of a table."""

    job: str
    state: str
    done: str
    model: str
    prompt: str
    asked_by: str


@dataclass(frozen=True)
class Facts:
    """What a model reads, as far as the page must know it."""

    size: int = 128
    reads: frozenset[str] = frozenset()
    labels: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()

    @classmethod
    def of(cls, draw: Generator) -> Facts:
        """Those of the model of a generator."""
        model, parts = draw.model, draw.model.conditioner.parts
        labels = known_labels(parts)
        classes = next((part.classes for part in parts if isinstance(part, MapConditioner)), ())
        return cls(model.spec.size, frozenset(model.conditioner.fields), tuple(labels), tuple(classes))


class Counter(Protocol):
    """Where jobs are handed in. All errors that reach a user are `UndiffuseError`s."""

    def models(self) -> list[str]:
        """The names of the models, the first one first."""
        ...

    def loras(self) -> list[str]:
        """The names of the LoRAs that prompts may name."""
        ...

    def draw(self, request: Request, model: str | None) -> AsyncIterator[Shown]:
        """Hand in a job and follow it to its end; whoever stops following has it cancelled."""
        ...

    def waiting(self) -> list[Waiting]:
        """Jobs that are not finished, in the order in which they came."""
        ...

    def cancel(self, job: str) -> bool:
        """End a job; False when it is over already."""
        ...

    def pictures(self, limit: int) -> list[Path]:
        """The files of the latest pictures, the newest first."""
        ...

    def alone(self, model: str | None, act: Callable[[Generator], T]) -> Future[T]:
        """Have something done with a model's generator while nothing is drawn with it."""
        ...

    def meanwhile(self, draw: Generator) -> None:
        """Let jobs go on by a step; called by what is done `alone` with `draw`, between its own steps.

        Raises:
            Cancelled: when the server stops.
        """
        ...
