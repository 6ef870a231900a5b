"""Questions to the network that wait to be answered together.

Guidance and every other intervention is a function around the model's denoiser, and calls it once or more within. To
have the calls of many pictures answered in one batch, each picture gets a denoiser of its own that does not compute:
at the first call that has no answer yet it raises `Asked`, and the whole function is called again when the answer is
there. Such functions have no state, so running one twice changes nothing but a few concatenations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from undiffuse.core.conditioning import Conditioning
from undiffuse.diffusion.denoise import Denoise
from undiffuse.diffusion.level import Level
from undiffuse.model.denoiser import Denoiser
from undiffuse.model.latent_diffusion import LatentDiffusion

Kin = tuple[object, ...]


@dataclass(frozen=True)
class Question:
    """ "What is clean in x (B, C, h, w) at this level?", to the network itself; the level is scalar or (B,)."""

    x: Tensor
    level: Level
    cond: Conditioning

    @property
    def kin(self) -> Kin:
        """What must be equal for two questions to be answered in one call: all shapes but rows and tokens."""
        tokens = self.cond.tokens
        slots = [(name, tuple(value.shape[1:])) for name, value in self.cond.slots().items() if name in ("vector", "spatial")]
        return (self.x.shape[1:], self.x.dtype, *slots, None if tokens is None else tokens.shape[2])


class Asked(Exception):
    """A picture waits for the answer to its question."""

    def __init__(self, question: Question) -> None:
        super().__init__("a question waits for its answer")
        self.question = question


class AskingDenoiser:
    """Stands in for a model's denoiser: says what was answered already, then raises `Asked`."""

    def __init__(self, denoiser: Denoiser) -> None:
        self.network = denoiser.network
        self.schedule = denoiser.schedule
        self.prediction = denoiser.prediction
        self.answers: list[Tensor] = []
        self._said = 0

    def __call__(self, x: Tensor, level: Level, cond: Conditioning) -> Tensor:
        if self._said == len(self.answers):
            raise Asked(Question(x, level, cond))
        self._said += 1
        return self.answers[self._said - 1]

    def again(self) -> None:
        """Say the answers from the first one on."""
        self._said = 0

    def forget(self) -> None:
        """Drop the answers: what they were about is done."""
        self.answers.clear()
        self._said = 0


def asking(model: LatentDiffusion) -> tuple[LatentDiffusion, AskingDenoiser]:
    """The model with a denoiser that asks, and that denoiser; everything else is shared."""
    denoiser = AskingDenoiser(model.denoiser)
    made = replace(model, denoiser=denoiser)  # type: ignore[arg-type]
    object.__setattr__(made, "adapters", model.adapters)
    return made, denoiser


@torch.no_grad()
def answer(questions: Sequence[Question], denoise: Denoise) -> list[Tensor]:
    """The answers to questions of one kin, out of a single call of the denoiser; rows may be at different levels."""
    if len(questions) == 1:
        (one,) = questions
        return [denoise(one.x, one.level, one.cond)]
    rows = [len(question.x) for question in questions]
    levels = [question.level.expand(len(question.x), question.x.device) for question in questions]
    told = (torch.cat([getattr(level, name) for level in levels]) for name in ("t", "alpha", "sigma"))
    x = torch.cat([question.x for question in questions])
    return list(denoise(x, Level(*told), Conditioning.cat([question.cond for question in questions])).split(rows))
