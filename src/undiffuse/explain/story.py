"""`tell`: everything that the page shows, measured while one picture is drawn, and others from the same noise."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from PIL import Image
from torch import Tensor

from undiffuse.core.devices import describe
from undiffuse.core.pictures import to_images
from undiffuse.core.random import START
from undiffuse.diffusion.level import Level
from undiffuse.diffusion.prediction import add_noise
from undiffuse.explain.compare import compare
from undiffuse.explain.contrasts import otherwise, said_in, silenced, unguided, with_one_word_less
from undiffuse.explain.cost import Cost, measure_cost
from undiffuse.explain.entering import Entrance, entrances, first_weight
from undiffuse.explain.lighting import Lighting, lightings
from undiffuse.explain.looks import Viewer, difference
from undiffuse.explain.recording import record
from undiffuse.explain.trace import Trace
from undiffuse.generation.generator import Generator
from undiffuse.generation.given import readings_of
from undiffuse.generation.output import Origin, attach
from undiffuse.generation.request import Request
from undiffuse.generation.seeds.numbers import numbers_of
from undiffuse.model.latent_diffusion import LatentDiffusion

NOISED = 7  # levels of the forward process
SHOWN = 40  # steps on the page at most
LIGHT = 1_500_000  # shares of attention on the page, a byte each, at most: a long prompt is lit at fewer steps
STRIP = 6  # estimates in a strip
WORDS = 10  # words that are left out, at most
PATIENCE = 60.0  # seconds that leaving out words may take

Tell = Callable[[str, int, int], None]
"""Takes what is being done, how much of it is done, and of how much."""


@dataclass(frozen=True, eq=False)
class Told:
    """One step as pictures: what it began with, and what it took for clean."""

    index: int
    xt: Image.Image
    x0: Image.Image


@dataclass(frozen=True, eq=False)
class Contrast:
    """Another drawing from the same noise: what it was told, its picture, how far each pixel (H, W) is from ours."""

    said: str
    picture: Image.Image
    apart: Tensor

    @property
    def by(self) -> float:
        """The mean distance, of 255."""
        return float(self.apart.mean())


@dataclass(frozen=True, eq=False)
class Instead:
    """The same noise with something else said: the drawing, its estimates at some steps, the distance of both at every step."""

    contrast: Contrast
    steps: list[int]
    ours: list[Image.Image]
    theirs: list[Image.Image]
    distances: list[float]


@dataclass(frozen=True, eq=False)
class Story:
    """All of it."""

    request: Request
    trace: Trace
    picture: Image.Image
    seconds: float
    machine: str
    looks: str
    noised: list[tuple[Level, Image.Image]]
    cost: Cost
    steps: list[Told]
    latent_weight: float | None
    lightings: list[Lighting]
    entrances: list[Entrance]
    silent: Contrast | None = None
    plain: Contrast | None = None
    instead: Instead | None = None
    dropped: list[tuple[str, Contrast]] = field(default_factory=list)


def tell(
    draw: Generator,
    request: Request,
    *,
    before: Origin | None = None,
    instead: str | None = None,
    words: bool | None = None,
    said: Tell = lambda what, done, total: None,
) -> Story:
    """Draw the first picture of a request and measure how it came to be.

    A request that names no steps is told from noise alone, in as many as any has: the usual way may begin halfway.

    Args:
        draw: what draws.
        request: what to draw.
        before: what drew it the first time, when it is drawn again.
        instead: another prompt for the same noise; chosen by `contrasts.otherwise` when left out.
        words: whether to leave out each word in turn; when left out, if that takes less than a minute.
        said: told how far it is.

    Raises:
        SpecError, DataError: as drawing does.
    """
    model = draw.model
    if "steps" not in request.model_fields_set:
        request = request.replace(steps=request.steps)
    request = draw.settle(request).each()[0]
    other = otherwise(request, model, instead)
    other = None if other is None else draw.settle(other)
    started = time.perf_counter()
    trace = record(draw, request, before, lambda done, total: said("drawing", done, total))
    seconds = time.perf_counter() - started
    z = trace.tensors["x0"][-1]
    size = (z.shape[1], z.shape[2])
    with torch.no_grad():
        drawn = to_images(model.codec.decode(z[None].to(model.device)))[0]  # of a masked picture the window
    shown = evenly(len(trace), SHOWN)
    view = Viewer(model, z, drawn, 2 * (len(shown) + STRIP) + NOISED)
    readings = readings_of(request, model)
    cost = measure_cost(model, drawn, trace.level(len(trace) // 2), model.conditioner([readings], size))
    steps = []
    for done, step in enumerate(shown, 1):
        xt, x0 = view(torch.stack([trace.tensors["x"][step], trace.tensors["x0"][step]]))
        steps.append(Told(step, xt, x0))
        said("looking at every step", done, len(shown))
    silent = silenced(request, model)
    pushed = silent is not None and (bool(request.scales) or request.guidance != 1)
    return Story(
        request=request,
        trace=trace,
        picture=attach(trace.picture, request, Origin(**trace.told["origin"])),
        seconds=seconds,
        machine=describe(draw.device, draw.precision),
        looks=view.how,
        noised=_noised(z, request, view, model),
        cost=cost,
        steps=steps,
        latent_weight=first_weight(model, 0, len(z)),
        lightings=lightings(trace),
        entrances=entrances(request, readings, model, size),
        silent=None if silent is None else _contrasts(draw, {"nothing": silent}, trace, said)[0],
        plain=_contrasts(draw, {said_in(request): unguided(request)}, trace, said)[0] if pushed else None,
        instead=None if other is None else _instead(draw, other, _told_apart(request, other), trace, view, said),
        dropped=_dropped(draw, request, trace, seconds if words is None else 0, said) if words is not False else [],
    )


def lit_steps(story: Story) -> list[int]:
    """The places in `steps` of those whose attention is on the page."""
    each = sum(one.shares[0].numel() for one in story.lightings)
    return evenly(len(story.steps), max(2, LIGHT // max(1, each)))


def evenly(count: int, most: int) -> list[int]:
    """Up to `most` of `count` indices, evenly, both ends among them."""
    if count <= most:
        return list(range(count))
    return sorted({round(index * (count - 1) / (most - 1)) for index in range(most)})


def _noised(z: Tensor, request: Request, view: Viewer, model: LatentDiffusion) -> list[tuple[Level, Image.Image]]:
    """The finished latent with the noise that the drawing began with, more and more of it."""
    noise = numbers_of(request, z.shape)(START)[0]
    levels = [Level(0.0, 1.0, 0.0), *(model.schedule.level(index / (NOISED - 1)) for index in range(1, NOISED))]
    return [(level, view(add_noise(z[None], noise, level))[0]) for level in levels]


def _contrasts(draw: Generator, told: dict[str, Request], trace: Trace, said: Tell) -> list[Contrast]:
    """These requests drawn, each beside our picture."""
    results = []
    for step in draw.stream(*told.values()):
        said("drawing others from the same noise", step.index + 1, step.steps)
        results = step.results
    images = [result.images[0] for result in results]
    return [Contrast(words, image, difference(trace.picture, image)) for words, image in zip(told, images, strict=True)]


def _told_apart(request: Request, other: Request) -> str:
    """What the other request says; where words do not tell the two apart it is seen in a mirror."""
    told = said_in(other)
    return f"{told}, in a mirror" if told == said_in(request) else told


def _instead(draw: Generator, other: Request, words: str, trace: Trace, view: Viewer, said: Tell) -> Instead:
    theirs = record(draw, other, tell=lambda done, total: said("drawing something else from the same noise", done, total))
    apart = compare(trace, theirs)
    steps = evenly(len(trace), STRIP)
    strips = [[view(one.tensors["x0"][step][None])[0] for step in steps] for one in (trace, theirs)]
    contrast = Contrast(words, theirs.picture, difference(trace.picture, theirs.picture))
    return Instead(contrast, steps, strips[0], strips[1], [x0 for _, x0 in apart.rows])


def _dropped(draw: Generator, request: Request, trace: Trace, seconds: float, said: Tell) -> list[tuple[str, Contrast]]:
    """Each word left out in turn, what changes most first; none where that takes too long, a drawing taking so many seconds."""
    left = with_one_word_less(request.prompt, WORDS)
    if not left or seconds * len(left) > PATIENCE:
        return []
    told = _contrasts(
        draw, {f"{place} {rest}": request.replace(prompt=rest) for place, (_, rest) in enumerate(left)}, trace, said
    )
    found = [(word, replace(one, said=rest)) for (word, rest), one in zip(left, told, strict=True)]
    return sorted(found, key=lambda pair: -pair[1].by)
