"""Exponential moving average of weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class EMA:
    """A running average of a net's parameters, kept in float32.

    The decay warms up as min(decay, (1 + n) / (10 + n)) so that early averages are not dominated by the
    initial weights (the rule of the original LitEma).
    """

    def __init__(self, net: nn.Module, decay: float) -> None:
        self.net = net
        self.decay = decay
        self.updates = 0
        self.average = {name: p.detach().clone().float() for name, p in net.named_parameters()}

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the present weights."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        present = [p.detach() for p in self.net.parameters()]
        torch._foreach_lerp_(list(self.average.values()), present, 1 - decay)  # type: ignore[reportPrivateImportUsage]
        self.updates += 1

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """Inside the block the net holds the average; afterwards its own weights again, bit by bit."""
        kept = {name: p.detach().clone() for name, p in self.net.named_parameters()}
        self._write(self.average)
        try:
            yield
        finally:
            self._write(kept)

    @torch.no_grad()
    def _write(self, weights: dict[str, Tensor]) -> None:
        for name, p in self.net.named_parameters():
            p.copy_(weights[name])

    def state(self) -> dict[str, object]:
        """What a checkpoint must hold."""
        return {"updates": self.updates, "average": self.average}

    @torch.no_grad()
    def load(self, state: dict[str, object]) -> None:
        """Take back what `state` gave."""
        self.updates = int(state["updates"])  # type: ignore[call-overload]
        for name, value in state["average"].items():  # type: ignore[attr-defined]
            self.average[name].copy_(value)
