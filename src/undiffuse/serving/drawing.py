"""`Drawing`: one picture under way, a solver that waits for what is clean."""

from __future__ import annotations

import torch
from torch import Tensor

from undiffuse.generation.request import Request
from undiffuse.generation.sample import plan, steps_of
from undiffuse.model.latent_diffusion import LatentDiffusion
from undiffuse.serving.asking import Asked, AskingDenoiser, Question, asking

TOGETHER = {
    "prompt", "negative", "label", "steps", "guidance", "guidance_interval", "guidance_rescale", "solver", "spacing", "eta",
    "solver_options", "seed", "count", "width", "height", "image", "strength", "sketch", "mask", "fill", "layout", "small",
    "boxes", "like", "context", "scales", "clip_skip", "seeds", "variation", "ensd", "place", "depth", "noise_level",
}  # fmt: skip
"""Fields of a request that change only what is asked, never how the network answers: pictures with these share calls."""


def shares(request: Request) -> bool:
    """Whether everything that a request says is of the kind that lets its pictures share calls of the network.

    A field that this file does not know counts only when it is set: then the picture is drawn by calls of its own.
    """
    return all(name in TOGETHER for name in request.model_fields_set if getattr(request, name) != _default(request, name))


class Drawing:
    """One picture of a settled request under way, driven from outside one question at a time.

    `question` is what it waits for; None when it is finished, or when it must be drawn by calls of its own (`alone`).
    `done` of `steps` steps are taken; `x0` (1, C, h, w) is the latest clean estimate, `latent` the finished latent.
    A refiner answers from the request's `refine_at` on.
    """

    @torch.no_grad()
    def __init__(self, request: Request, model: LatentDiffusion, refiner: LatentDiffusion | None = None) -> None:
        self.request = request
        self.alone = not shares(request)
        self.steps = steps_of(request, model)
        self.done = 0
        self.x0: Tensor | None = None
        self.latent: Tensor | None = None
        self.question: Question | None = None
        self._asking: AskingDenoiser | None = None
        if not self.alone:
            model, self._asking = asking(model)
        self._solver, self._denoise, self._cond = plan([request], model, refiner)
        self._query = next(self._solver)
        if not self.alone:
            self._go_on()

    def told(self, x0: Tensor) -> None:
        """Take the answer to the question, and go on to the next one."""
        assert self._asking is not None
        self._asking.answers.append(x0)
        self._go_on()

    @torch.no_grad()
    def ask_alone(self) -> None:
        """Answer one query of the solver by calls of its own."""
        self._step(self._denoise(self._query.x, self._query.level, self._cond))

    @torch.no_grad()
    def _go_on(self) -> None:
        """Run until the network is asked something new, or the picture is finished."""
        assert self._asking is not None
        self.question = None
        while self.latent is None:
            self._asking.again()
            try:
                x0 = self._denoise(self._query.x, self._query.level, self._cond)
            except Asked as asked:
                self.question = asked.question
                return
            self._asking.forget()
            self._step(x0)

    def _step(self, x0: Tensor) -> None:
        self.x0 = x0
        try:
            self._query = self._solver.send(x0)
            self.done = self._query.index
        except StopIteration as end:
            self.latent = end.value
            self.done = self.steps


def _default(request: Request, name: str) -> object:
    return type(request).model_fields[name].get_default(call_default_factory=True)
