"""`Generator`: a model at work on one device. Requests in, pictures out."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor

from undiffuse.checkpoints.lora_folder import LoraFolder
from undiffuse.core.devices import choose_device, choose_precision, describe, keep_freed_memory, short_dtype
from undiffuse.core.errors import UsageError, explain
from undiffuse.core.pictures import to_images
from undiffuse.diffusion.schedule import DiscreteSchedule
from undiffuse.generation.additions import additions
from undiffuse.generation.engines.table import TORCH, put_on
from undiffuse.generation.given import window_of
from undiffuse.generation.lora_tags import tags_of
from undiffuse.generation.memory import LOW, PLENTY, choose_memory
from undiffuse.generation.output import Origin, attach, write_picture
from undiffuse.generation.refining import check_refiner
from undiffuse.generation.request import PICTURES, Request
from undiffuse.generation.sample import decode, read_as, sample, settle, steps_of
from undiffuse.generation.wardrobe import Wardrobe
from undiffuse.model.latent_diffusion import LatentDiffusion


@dataclass(frozen=True)
class Result:
    """What one request gave: its pictures, the request with everything filled in, and the seconds it took.

    Picture k was drawn as `request.each()[k]` tells, as a rule from seed `request.seed + k`. Saved as PNG, each tells
    its own request. `seconds` is the request's share of the batches that it was part of; what the caller did between
    steps is not counted.
    """

    images: list[Image.Image]
    request: Request
    seconds: float

    def save(self, folder: str | Path) -> list[Path]:
        """Write every picture as `<index>-<seed>.png` into the folder; no file is ever overwritten."""
        pairs = zip(self.images, self.request.each(), strict=True)
        return [write_picture(image, folder, str(one.seed)) for image, one in pairs]


@dataclass(frozen=True, eq=False)
class Step:
    """One step of a drawing that is under way.

    `index` counts from 0 to `steps - 1` over the whole drawing, all batches of it; `pictures` are those in
    this batch; `x0` (B, C, h, w) is the latest clean estimate of them. `images` is empty until the last step of
    the batch, then it holds its finished pictures. `results` is empty until the last step of all, then it holds
    one result a request.
    """

    index: int
    steps: int
    pictures: list[Request]
    x0: Tensor
    model: LatentDiffusion = field(repr=False)
    images: list[Image.Image] = field(default_factory=list)
    results: list[Result] = field(default_factory=list)

    def preview(self) -> list[Image.Image]:
        """What the pictures of this batch look like so far: the clean estimate, by the model's quickest decoder."""
        with torch.no_grad():
            return to_images(self.model.codec.preview(self.x0))


def _to_error_stream(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


class Generator:
    """Draws with one model, and says in one line what it chose to draw on.

    On a CPU it has the C library keep freed memory for the rest of the process, for speed; setting any MALLOC_
    variable in the environment prevents that (see `core.devices.keep_freed_memory`).

    Args:
        model: moved, in place, to the device and precision that are chosen.
        refiner: moved as well; it goes on from `refine_at` of requests that have it, of two passes in the second.
        device: "cpu", "cuda", "cuda:1" or "mps"; the fastest there is by default.
        precision: "fp32", "bf16" or "fp16"; by default bf16 where the hardware computes in it, else fp32.
        batch: how many pictures are drawn at once, at most.
        memory: "plenty", or "low": weights stay as their file holds them, and where they are, and come to work a layer at a
            time; chosen by what is free by default.
        lora_dir: folder of the LoRAs that prompts may name, as `<lora:name:0.8>`.
        engine: "torch", or "openvino" for compiled graphs on a CPU (see `generation/engines/`).
        tell: takes the line; the error stream by default, None for silence.

    Raises:
        DeviceError: when the machine lacks the device or precision, or the engine does not work on it.
        DependencyError: when the engine is not installed.
        SpecError: when the refiner knows other latents than the model, or another noise schedule.
        UsageError: when `batch` is below 1, memory is no such word, or there is no such folder of LoRAs.
    """

    def __init__(
        self,
        model: LatentDiffusion,
        *,
        refiner: LatentDiffusion | None = None,
        device: str | None = None,
        precision: str | None = None,
        batch: int = 4,
        memory: str | None = None,
        lora_dir: str | Path | None = None,
        engine: str = TORCH,
        tell: Callable[[str], None] | None = _to_error_stream,
    ) -> None:
        if batch < 1:
            raise UsageError(explain(f"batch = {batch}", "1 or more pictures at once are possible"))
        if refiner is not None:
            check_refiner(model, refiner)
        if lora_dir is not None and engine != TORCH:
            given = f"engine {engine!r} with a folder of LoRAs"
            raise UsageError(explain(given, "graphs are made of the nets as their files hold them", f"use engine {TORCH!r}"))
        self.device = choose_device(device)
        self.precision = choose_precision(self.device, precision)
        self.batch = batch
        wanted = memory if engine == TORCH or memory else PLENTY
        self.memory = choose_memory(model, self.device, self.precision, wanted)
        self.origin = Origin(model.spec.name, model.fingerprint, str(self.device), short_dtype(self.precision), engine=engine)
        self._refined_by = {} if refiner is None else {"refiner": refiner.spec.name, "refiner_hash": refiner.fingerprint}
        self.model = put_on(engine, model, self.device, self.precision, self.memory, self.origin.model_hash)
        self.wardrobe = Wardrobe(self.model, None if lora_dir is None else LoraFolder(lora_dir))
        self.refiner = refiner
        if refiner is not None:
            memory = choose_memory(refiner, self.device, self.precision, wanted)
            self.refiner = put_on(engine, refiner, self.device, self.precision, memory, self._refined_by["refiner_hash"])
        for one in (self.model, self.refiner):
            for net in () if one is None else one.parts().values():
                net.eval()
        if self.device.type == "cpu":
            keep_freed_memory()
        if tell is not None:
            tell(repr(self))

    def __repr__(self) -> str:
        by = "" if self.origin.engine == TORCH else f", {self.origin.engine}"
        by += ", weights brought over a layer at a time" if self.memory == LOW else ""
        by += f", refined by {self.refiner.spec.name!r}" if self.refiner is not None else ""
        return f"Generator({self.origin.model!r} on {describe(self.device, self.precision)}{by})"

    def __call__(self, request: Request) -> Result:
        """Draw one request.

        Raises:
            SpecError: when the model has not learned what is asked for, or cannot draw in that size.
            DataError: when a map, a box or another context is of no use to the model.
        """
        return self.many([request])[0]

    def many(self, requests: Sequence[Request]) -> list[Result]:
        """Draw several requests, together where their settings agree; one result each, in order."""
        results: list[Result] = []
        for step in self.stream(*requests):
            results = step.results
        return results

    def stream(self, *requests: Request, keep: bool = True) -> Iterator[Step]:
        """Draw step by step. Stopping is just stopping; the last step holds the results.

        Args:
            requests: what to draw.
            keep: whether the results hold all pictures; else whoever wants one takes it from the step that finished it, so
                that a thousand of them need the memory of a batch.

        Raises:
            SpecError, DataError: as calling it does, before anything is drawn.
        """
        settled = [self.settle(request) for request in requests]
        return self._steps(settled, _batches(settled, self.batch), keep)

    def settle(self, request: Request) -> Request:
        """The request with everything filled in, checked.

        Raises:
            SpecError, DataError, UsageError: as drawing does.
        """
        return settle(request, self.model, self.refiner, self.wardrobe)

    def _steps(self, requests: list[Request], batches: list[list[_Place]], keep: bool) -> Iterator[Step]:
        total = sum(steps_of(batch[0].request, self.model) for batch in batches)
        images: list[list[Image.Image]] = [[] for _ in requests]
        seconds = [0.0] * len(requests)
        index = 0
        for batch in batches:
            pictures = [place.request for place in batch]
            tags = tags_of(pictures[0])
            with self.wardrobe.worn(tags), closing(sample(pictures, self.model, self.refiner)) as steps:
                started = time.perf_counter()
                for step in steps:
                    finished = self.finish(step.x, pictures) if step.index + 1 == step.steps else []
                    for place, image in zip(batch, finished if keep else (), strict=False):
                        images[place.owner].append(image)
                    spent = time.perf_counter() - started
                    for place in batch:
                        seconds[place.owner] += spent / len(batch)
                    told = zip(images, requests, seconds, strict=True) if index + 1 == total else ()
                    results = [Result(drawn, request, taken) for drawn, request, taken in told]
                    yield Step(index, total, pictures, step.x0, self.model, finished, results)
                    index += 1
                    self.wardrobe.wear(tags)  # another drawing may have gone on meanwhile
                    started = time.perf_counter()  # whatever was done with the step is not counted

    def finish(self, z: Tensor, pictures: Sequence[Request]) -> list[Image.Image]:
        """The pictures of finished latents (B, C, h, w), each with its own request inside."""
        origins = [self.origin_of(request, len(pictures), k) for k, request in enumerate(pictures)]
        drawn = [self._pasted(image, request) for image, request in zip(decode(z, self.model), pictures, strict=True)]
        return [attach(image, request, origin) for image, request, origin in zip(drawn, pictures, origins, strict=True)]

    def origin_of(self, request: Request, batch: int = 1, position: int = 0) -> Origin:
        """What draws a settled request at this position of a batch."""
        by = self._refined_by if request.refine_at is not None else {}
        others = ", ".join(f"{word}: {meant}" for word, meant in read_as(request, self.model).items())
        with self.wardrobe.worn(tags_of(request)):
            worn = additions(request, self.model)
        return replace(self.origin, batch=batch, position=position, additions=worn, read_as=others, **by)

    def _pasted(self, image: Image.Image, request: Request) -> Image.Image:
        """A masked picture with what was drawn in its place; any other one as it is."""
        window = window_of(request, self.model)
        if window is None or request.image is None or request.mask is None:
            return image
        seam = isinstance(self.model.schedule, DiscreteSchedule)  # Stable Diffusion's: to the pixel what other programs draw
        return window.paste(request.image, image, request.mask, seam)


class _Place(NamedTuple):
    """One picture to draw: which request it belongs to, and that request for this picture alone."""

    owner: int
    request: Request


def _batches(requests: Sequence[Request], size: int) -> list[list[_Place]]:
    """All pictures, those with equal settings and the same LoRAs together, `size` at most at a time."""
    alike: dict[tuple[object, ...], list[_Place]] = {}
    for owner, request in enumerate(requests):
        alike.setdefault(_settings(request), []).extend(_Place(owner, one) for one in request.each())
    return [group[start : start + size] for group in alike.values() for start in range(0, len(group), size)]


def _settings(request: Request) -> tuple[object, ...]:
    """Everything about a request that must be equal for its pictures to share a batch."""
    apart = {
        "prompt",
        "negative",
        "label",
        "seed",
        "variation",
        "place",
        "count",
        "boxes",
        "context",
        "scales",
        "solver_options",
        "hires",
    }
    own = request.model_dump(exclude={*apart, *PICTURES})
    return (
        *own.values(),
        request.hires,
        tags_of(request),
        tuple(sorted(request.solver_options.items())),
        *sorted(request.scales.items()),
        *sorted(request.context),
        *request.pictures(),
    )
