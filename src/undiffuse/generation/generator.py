"""`Generator`: a model at work on one device. Requests in, pictures out."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from PIL import Image
from torch import Tensor

from undiffuse.core.devices import choose_device, choose_precision, describe, short_dtype
from undiffuse.generation.output import Origin, attach, write_picture
from undiffuse.generation.request import Request
from undiffuse.generation.sample import decode, grid_of, sample, settle
from undiffuse.model.latent_diffusion import LatentDiffusion


@dataclass(frozen=True)
class Result:
    """What one request gave: its pictures, the request with everything filled in, and the seconds it took.

    Picture k was drawn from seed `request.seed + k`. Saved as PNG, each tells its own request.
    """

    images: list[Image.Image]
    request: Request
    seconds: float

    def save(self, folder: str | Path) -> list[Path]:
        """Write every picture as `<index>-<seed>.png` into the folder; no file is ever overwritten."""
        pairs = zip(self.images, self.request.each(), strict=True)
        return [write_picture(image, folder, str(one.seed)) for image, one in pairs]


@dataclass(frozen=True)
class Step:
    """One step of a drawing that is under way.

    `index` counts from 0 to `steps - 1` over the whole drawing, all batches of it; `pictures` are those in
    this batch; `x0` (B, C, h, w) is the latest clean estimate of them. `results` is empty until the last
    step, then it holds one result a request.
    """

    index: int
    steps: int
    pictures: list[Request]
    x0: Tensor
    model: LatentDiffusion = field(repr=False)
    results: list[Result] = field(default_factory=list)

    def preview(self) -> list[Image.Image]:
        """What the pictures of this batch look like so far: the clean estimate, decoded."""
        return decode(self.x0, self.model)


class Generator:
    """Draws with one model; `print(draw)` tells on what.

    Args:
        model: moved to the device and precision that are chosen.
        device: "cpu", "cuda", "cuda:1" or "mps"; the fastest there is by default.
        precision: "fp32", "bf16" or "fp16"; by default bf16 where the hardware computes in it, else fp32.
        batch: how many pictures are drawn at once, at most.

    Raises:
        DeviceError: when the machine lacks the device or precision.
    """

    def __init__(
        self, model: LatentDiffusion, *, device: str | None = None, precision: str | None = None, batch: int = 4
    ) -> None:
        self.device = choose_device(device)
        self.precision = choose_precision(self.device, precision)
        self.batch = batch
        self.origin = Origin(model.spec.name, model.fingerprint, str(self.device), short_dtype(self.precision))
        self.model = model.to(device=self.device, dtype=self.precision)
        for net in self.model.parts().values():
            net.eval()

    def __repr__(self) -> str:
        return f"Generator({self.origin.model!r} on {describe(self.device, self.precision)})"

    def __call__(self, request: Request) -> Result:
        """Draw one request.

        Raises:
            SpecError: when the model has not learned what is asked for, or cannot draw in that size.
        """
        return self.many([request])[0]

    def many(self, requests: Sequence[Request]) -> list[Result]:
        """Draw several requests, together where their settings agree; one result each, in order."""
        results: list[Result] = []
        for step in self.stream(*requests):
            results = step.results
        return results

    def stream(self, *requests: Request) -> Iterator[Step]:
        """Draw step by step. Stopping is just stopping; the last step holds the results."""
        settled = [settle(request, self.model) for request in requests]
        batches = _batches(settled, self.batch)
        total = sum(len(grid_of(batch[0].request, self.model)) for batch in batches)
        done, images, seconds = 0, {}, [0.0] * len(settled)
        for batch in batches:
            started, pictures = time.perf_counter(), [place.request for place in batch]
            for inner in sample(pictures, self.model):
                done += 1
                if done < total:
                    yield Step(done - 1, total, pictures, inner.x0, self.model)
                ...


class _Place(NamedTuple):
    """One picture to draw: which request it belongs to, and that request for this picture alone."""

    owner: int
    request: Request


def _batches(requests: Sequence[Request], size: int) -> list[list[_Place]]:
    """All pictures, those with equal settings together, `size` at most at a time."""
    alike: dict[tuple[object, ...], list[_Place]] = {}
    for owner, request in enumerate(requests):
        alike.setdefault(_settings(request), []).extend(_Place(owner, one) for one in request.each())
    return [group[start : start + size] for group in alike.values() for start in range(0, len(group), size)]


def _settings(request: Request) -> tuple[object, ...]:
    """Everything about a request that must be equal for its pictures to share a batch."""
    own = request.model_dump(exclude={"prompt", "negative", "label", "seed", "count", "image"})
    return (*own.values(), request.image is None)
