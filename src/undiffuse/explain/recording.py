"""`record`: draw a picture and keep everything that happened on the way."""

from __future__ import annotations

from collections.abc import Callable

from undiffuse.conditioners.base import Word
from undiffuse.core.errors import SpecError, explain
from undiffuse.explain.recorder import Recorder
from undiffuse.explain.trace import Trace, gathered
from undiffuse.generation.again import copies
from undiffuse.generation.generator import Generator
from undiffuse.generation.given import readings_of
from undiffuse.generation.output import Origin, told_of
from undiffuse.generation.request import Request

Tell = Callable[[int, int], None]
"""Takes how many steps are done, and of how many."""


def record(draw: Generator, request: Request, before: Origin | None = None, tell: Tell | None = None) -> Trace:
    """Draw the first picture of a request; it comes out as it would unrecorded.

    Args:
        draw: what draws.
        request: what to draw.
        before: what drew the picture the first time, for one that is drawn again: it takes its place in a batch as large.
        tell: told of every step; meanwhile anything else may be drawn.

    Raises:
        SpecError, DataError: as drawing does, and for a drawing in two passes or by two models.
    """
    if request.hires is not None:
        raise SpecError(explain("a drawing in two passes (hires)", "one pass is recorded", "leave hires out"))
    if request.refine_at is not None:
        raise SpecError(explain("a drawing that a refiner finishes (refine_at)", "one model is watched", "leave refine_at out"))
    request = draw.settle(request).each()[0]
    place = (before.batch, before.position) if before is not None and before.batch <= draw.batch else (1, 0)
    origin = draw.origin_of(request, *place)
    words = draw.model.conditioner.words(readings_of(request, draw.model))
    places = sorted({one for word in words for one in word.places})
    picture = None
    recorder = Recorder(draw.model, *place, places)
    steps = draw.stream(*copies(request, origin), keep=False)
    while True:
        with recorder:
            step = next(steps, None)
        if step is None:
            break
        recorder.close(step.x0)
        if step.images:
            picture = step.images[origin.position]
        if tell is not None:
            tell(step.index + 1, step.steps)
    assert picture is not None  # the last step holds it
    kept = [Word(text, tuple(places.index(one) for one in own)) for text, own in words]
    return gathered(recorder.moments, picture, told_of(request, origin), kept)
