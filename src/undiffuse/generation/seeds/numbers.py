"""What one picture draws, in the order in which each program draws it.

    diffusers   one generator a picture: noise over or latents of what was given, start, then every step
    ComfyUI     one generator a batch for the start, another for the steps; a picture has its row of each
    web UI      one generator a picture: start, then every step, which ENSD gives a generator of its own

What solvers draw from Brownian trees is torchsde's for ComfyUI and the web UI; diffusers draws for every step.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from undiffuse.core.random import START, PictureNoise, normal
from undiffuse.diffusion.brownian import BrownianPath, Path
from undiffuse.diffusion.drive import Noise
from undiffuse.diffusion.dyadic import dyadic_path
from undiffuse.diffusion.grid import Grid
from undiffuse.diffusion.level import Level
from undiffuse.diffusion.schedule import Schedule
from undiffuse.generation.request import Request
from undiffuse.generation.seeds.levels import whole_grid
from undiffuse.generation.seeds.streams import CudaStream, Stream, TorchStream, row_of

Given = Literal["image", "around"]
"""A picture to start from or to fill a hole of, and the same with the hole cut out."""
Shape = Sequence[int]
NEARLY_ALIKE = 0.9995
BY_SIGMA = frozenset({"euler", "euler_ancestral", "heun", "lms", "dpm_2", "dpm_2_ancestral"})
BY_TIME = frozenset({"ddim", "plms", "uni_pc", "uni_pc_bh2"})


class Numbers(ABC):
    """The numbers of a picture, each (1, C, h, w). `START` is the step of those that it starts from.

    `other` are those of another seed, towards which the start is turned ("variation seed" of the web UI).
    """

    other: Numbers | None = None

    def __init__(self, request: Request, shape: Shape) -> None:
        self.request = request
        self.shape = (1, *shape)

    def __call__(self, step: int) -> Tensor:
        """Noise of a step."""
        if step != START or self.other is None or self.request.variation is None:
            return self.drawn(step)
        return turned(self.drawn(START), self.other.drawn(START), self.request.variation[1])

    @abstractmethod
    def drawn(self, step: int) -> Tensor:
        """Noise of a step, as the seed alone gives it."""

    @property
    def begun(self) -> bool:
        """Whether something of a picture is begun with; a model that learned masks makes all anew at strength 1."""
        request = self.request
        return request.image is not None and not (request.fill == "learned" and request.strength == 1)

    @property
    def blends(self) -> bool:
        """Whether what is known beside a mask has the noise of the start in every step."""
        return False

    def spread(self, level: Level, schedule: Schedule) -> float:
        """Standard deviation of what a picture starts from at the first level of its run."""
        return float(level.sigma)

    def path(self, grid: Grid) -> Path:
        """The Brownian path of a run over this grid."""
        return BrownianPath(self)

    def latent(self, given: Given) -> Tensor | None:
        """Noise with which a latent is drawn from its posterior; None where the mean is taken."""
        return None

    def hidden(self, shape: Shape) -> Tensor:
        """Noise of this shape (3, h, w) that hides a small picture."""
        return normal(shape, "draw", self.request.seed, 0, "small")


class Native(Numbers):
    """Ours: a function of seed and step."""

    def drawn(self, step: int) -> Tensor:
        """Noise of a step."""
        return PictureNoise(self.request.seed, (0,), self.shape[1:])(step)


class Diffusers(Numbers):
    """Pipelines of diffusers with a generator of its own for each picture.

    Inpainting draws a latent of the picture where it starts from it or blends with it, and one of what is around the hole.
    """

    def __init__(self, request: Request, shape: Shape, stream: Callable[[int, Shape], Stream] = TorchStream) -> None:
        super().__init__(request, shape)
        if request.noise_level is not None:
            stream = partial(TorchStream, before=(1, 3, *shape[1:]))  # over the small picture
        self.stream = stream(request.seed, self.shape)
        image, around = super().begun, request.mask is not None
        self.order = (*(("image",) if image else ()), START, *(("around",) if around else ()))

    @property
    def begun(self) -> bool:
        """Not at strength 1, where all that is masked is made anew."""
        return super().begun and not (self.request.mask is not None and self.request.strength == 1)

    @property
    def blends(self) -> bool:
        """Always."""
        return True

    def spread(self, level: Level, schedule: Schedule) -> float:
        """Their schedulers with sigmas take sigma, unless spaced by "leading"; all others take plain noise for the start."""
        exact = self.begun or (self.request.solver in BY_SIGMA and self.request.spacing != "leading")
        return float(level.sigma) if exact else whole(level)

    def drawn(self, step: int) -> Tensor:
        """Noise of a step."""
        return self.stream.at(self.order.index(START) if step == START else len(self.order) + step)

    def path(self, grid: Grid) -> Path:
        """No path: every step draws."""
        return _StepByStep(self)

    def latent(self, given: Given) -> Tensor | None:
        """As they draw it, from the same generator."""
        return self.stream.at(self.order.index(given)) if given in self.order else None

    def hidden(self, shape: Shape) -> Tensor:
        """Noise that hides a small picture: what the generator draws first."""
        return TorchStream(self.request.seed, shape).at(0)


class ComfyUI(Numbers):
    """Nodes of ComfyUI: the start is drawn on the CPU, the steps where the net is, Brownian trees on the CPU.

    On a CPU the generator of the steps has the seed plus one, for else it would repeat the start.
    """

    def __init__(self, request: Request, shape: Shape, on_gpu: bool = True) -> None:
        super().__init__(request, shape)
        self.row, count = request.place
        self.batch = (count, *shape)
        self.first = TorchStream(request.seed, self.batch)
        elements = torch.Size(shape).numel()
        self.steps: Stream = TorchStream(request.seed + 1, self.batch)
        if on_gpu:
            self.steps = CudaStream(request.seed, self.shape, self.row * elements)
        self.step_row = 0 if on_gpu else self.row

    @property
    def blends(self) -> bool:
        """Always."""
        return True

    def spread(self, level: Level, schedule: Schedule) -> float:
        """Plain noise at the schedule's own end, and less below it."""
        at_end = math.isclose(level.ratio, schedule.at(schedule.t_max).ratio, rel_tol=1e-5)
        return whole(level) if at_end else float(level.sigma)

    def drawn(self, step: int) -> Tensor:
        """Noise of a step."""
        return row_of(self.first, self.row, 0) if step == START else row_of(self.steps, self.step_row, step)

    def path(self, grid: Grid) -> Path:
        """torchsde's tree of the whole batch."""
        return dyadic_path(self.request.seed, grid, lambda seed: row_of(TorchStream(seed, self.batch), self.row, 0))


class WebUI(Numbers):
    """AUTOMATIC1111's web UI, "RNG" on the CPU, or on the GPU, which "NV" imitates."""

    def __init__(self, request: Request, shape: Shape, stream: Callable[[int, Shape], Stream]) -> None:
        super().__init__(request, shape)
        self.stream = stream
        self.first = stream(request.seed, self.shape)
        self.steps = stream(request.seed + request.ensd, self.shape) if request.ensd else self.first

    def spread(self, level: Level, schedule: Schedule) -> float:
        """Plain noise for samplers that go by times, not sigmas."""
        return whole(level) if self.request.solver in BY_TIME and not self.begun else float(level.sigma)

    def drawn(self, step: int) -> Tensor:
        """Noise of a step."""
        if step == START:
            return self.first.at(0)
        return self.steps.at(step if self.request.ensd else step + 1)

    def path(self, grid: Grid) -> Path:
        """torchsde's tree of one picture, over the whole schedule also where a picture is begun with."""
        full = whole_grid(self.request, grid.schedule)
        return dyadic_path(self.request.seed, full, lambda seed: self.stream(seed, self.shape).at(0))


class _StepByStep:
    """Fresh numbers for every step that is asked for, in the order of asking."""

    def __init__(self, noise: Noise) -> None:
        self.noise = noise
        self.asked = 0

    def between(self, now: Level, nxt: Level) -> Tensor:
        self.asked += 1
        return self.noise(self.asked - 1)


KINDS: dict[str, Callable[[Request, Shape], Numbers]] = {
    "native": Native,
    "diffusers": Diffusers,
    "diffusers-gpu": lambda request, shape: Diffusers(request, shape, CudaStream),
    "comfyui": ComfyUI,
    "comfyui-cpu": lambda request, shape: ComfyUI(request, shape, on_gpu=False),
    "webui-gpu": lambda request, shape: WebUI(request, shape, CudaStream),
    "webui-cpu": lambda request, shape: WebUI(request, shape, TorchStream),
}


def numbers_of(request: Request, shape: Shape) -> Numbers:
    """The numbers of one settled request of one picture, whose latent has the shape (C, h, w)."""
    one = KINDS[request.seeds](request, shape)
    if request.variation is not None and request.variation[1] > 0:
        other = request.model_copy(update={"seed": request.variation[0], "variation": None})
        one.other = KINDS[request.seeds](other, shape)
    return one


def whole(level: Level) -> float:
    """Plain noise, as if nothing of a picture were left at this level; 1 where alpha and sigma preserve the variance."""
    return math.hypot(float(level.alpha), float(level.sigma))


def turned(one: Tensor, other: Tensor, strength: float) -> Tensor:
    """Noise (1, C, h, w) turned by a share of the angle to other noise, every column of it for itself, as the web UI does.

    Where both are nearly alike it mixes them, weighing them the other way round, as the web UI does too.
    """
    units = (noise / noise.norm(dim=2, keepdim=True) for noise in (one, other))
    first, second = units
    cosine = (first * second).sum(2, keepdim=True)
    if cosine.mean() > NEARLY_ALIKE:
        return one * strength + other * (1 - strength)
    angle = cosine.clamp(-1, 1).acos()
    found = (((1 - strength) * angle).sin() * one + (strength * angle).sin() * other) / angle.sin()
    return torch.where(angle.sin() > 0, found, one)  # columns in one line have no angle to go along
