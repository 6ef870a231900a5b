"""`Recorder`: watches one picture being drawn, without touching it.

Hooks of torch see what the denoiser is asked and answers, the probes of cross-attention see its weights. Both are
there only while somebody records; both read and change nothing, so a recorded picture is the unrecorded one.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from undiffuse.diffusion.level import Level
from undiffuse.model.latent_diffusion import LatentDiffusion
from undiffuse.networks.attention import Attention, Probe, TransformerBlock

FINEST = 16  # positions on the longer side of a kept attention map


@dataclass
class Moment:
    """What one step began with: x (C, h, w), the level, the first answers, and whose words the positions looked at.

    `conditional` and `unconditional` (C, h, w) are the two estimates that guidance joins; `unconditional` is None where
    there was none. `x0` (C, h, w) is the estimate that the step went by, `attention` (T + 1, r, c) by layer: the shares
    of the places asked for, and of all others, mean over heads. `calls` counts calls of the network.
    """

    level: Level
    x: Tensor
    conditional: Tensor
    unconditional: Tensor | None
    seconds: float
    calls: int = 1
    x0: Tensor | None = None
    attention: dict[str, Tensor] = field(default_factory=dict)


def cross_attentions(network: nn.Module) -> dict[str, Attention]:
    """Every cross-attention of a net by the path of its block, in the order of the net."""
    blocks = ((path, block) for path, block in network.named_modules() if isinstance(block, TransformerBlock))
    return {path: block.attend_cross for path, block in blocks if block.attend_cross is not None}


class Recorder:
    """Records every step of one picture of a batch; a context manager, entered anew for every step or once for all.

    Args:
        model: whose denoiser is watched.
        batch: pictures that are drawn together.
        position: which of them is recorded.
        places: tokens whose attention is kept one by one; none keeps no attention.
    """

    def __init__(self, model: LatentDiffusion, batch: int = 1, position: int = 0, places: Sequence[int] = ()) -> None:
        self.moments: list[Moment] = []
        self._model = model
        self._batch = batch
        self._position = position
        self._places = list(places)
        self._open = True  # whether the next call begins a step
        self._size = (1, 1)
        self._seen: dict[str, Tensor] = {}
        self._started = 0.0
        self._hooks: list[RemovableHandle] = []
        self._probes: list[tuple[Attention, Probe | None]] = []

    def __enter__(self) -> Self:
        self._hooks = [
            self._model.denoiser.register_forward_pre_hook(self._before),
            self._model.denoiser.register_forward_hook(self._after),
        ]
        for path, attention in cross_attentions(self._model.denoiser.network).items() if self._places else ():
            self._probes.append((attention, attention.probe))
            attention.probe = self._probe(path)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for hook in self._hooks:
            hook.remove()
        for attention, before in self._probes:
            attention.probe = before
        self._hooks, self._probes = [], []

    def close(self, x0: Tensor) -> None:
        """End a step, with the estimates (B, C, h, w) that it went by."""
        self.moments[-1].x0 = _kept(x0[self._position])
        self._open = True

    def _before(self, _: nn.Module, given: tuple[Any, ...]) -> None:
        self._size = tuple(given[0].shape[-2:])
        self._seen = {}
        self._started = time.perf_counter()

    def _after(self, _: nn.Module, given: tuple[Any, ...], answer: Tensor) -> None:
        x, level, _ = given
        seconds = time.perf_counter() - self._started
        if not self._open:
            self.moments[-1].calls += 1
            self.moments[-1].seconds += seconds
            return
        self._open = False
        answers = answer[self._position :: self._batch]  # least said first, everything last
        self.moments.append(
            Moment(
                level=level,
                x=_kept(x[self._position]),
                conditional=_kept(answers[-1]),
                unconditional=_kept(answers[0]) if len(answers) > 1 else None,
                seconds=seconds,
                attention=self._seen,
            )
        )

    def _probe(self, path: str) -> Probe:
        def see(weights: Tensor) -> None:
            if self._open:
                row = len(weights) - self._batch + self._position  # where everything is said
                self._seen[path] = _kept(reduced(weights[row].float().mean(0), self._size, self._places))

        return see


def reduced(weights: Tensor, size: tuple[int, int], places: Sequence[int]) -> Tensor:
    """Attention (N, M) of positions to tokens as maps (T + 1, r, c): the tokens at these places, then all others together.

    Args:
        weights: rows that add up to 1.
        size: height and width of the latent; N is that of one of its halvings.
        places: T tokens.
    """
    height, width = size
    while height * width > len(weights):
        height, width = height // 2, width // 2
    chosen = weights[:, list(places)]  # (N, T)
    maps = torch.cat([chosen, 1 - chosen.sum(1, keepdim=True)], dim=1).T.unflatten(1, (height, width))
    longest = max(height, width)
    if longest <= FINEST:
        return maps
    return F.adaptive_avg_pool2d(maps, (max(1, height * FINEST // longest), max(1, width * FINEST // longest)))


def _kept(value: Tensor) -> Tensor:
    return value.detach().float().cpu().clone()
