"""`Objective`: what a run learns. The loop knows nothing else about autoencoders or diffusion."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

from PIL import Image
from torch import Tensor, nn

from undiffuse.core.errors import explain
from undiffuse.training.distributed import Workers

Batch = TypeVar("Batch")
FEW = 200  # pictures; about what `data check` calls few


class Objective(ABC, Generic[Batch]):
    """Nets with a loss each, and the batches that they learn from.

    `players` maps a name to a net with an optimizer of its own; in every step the loop asks `loss` for each
    in turn. Most objectives have one player; adversarial training has two. `workers` are the processes that
    share the batch; the loop averages gradients over them, an objective only what it measures itself.
    """

    players: Mapping[str, nn.Module]
    workers: Workers = Workers()

    @abstractmethod
    def batch(self, step: int, slots: range) -> Batch:
        """The examples for these slots of this step: a pure function, called ahead of time in a thread."""

    @abstractmethod
    def loss(self, player: str, batch: Batch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The scalar that this player descends, and named values for the log.

        `slots` of the batch decide every random number, so nothing depends on the number of processes.
        """

    def rate(self, player: str) -> float | None:
        """A learning rate of the player's own; None means the recipe's."""
        return None

    @abstractmethod
    def preview(self, step: int) -> Image.Image:
        """One picture that shows how far the nets have come."""

    @abstractmethod
    def export(self, folder: Path) -> None:
        """Write the nets, as they are now, as a native model into `folder`."""

    def compile(self) -> None:
        """Compile the nets in place; state and names stay as they are."""
        for net in self.players.values():
            net.compile()

    def describe(self) -> dict[str, Any]:
        """Facts worth a line at the start: sizes, counts."""
        return {name: f"{sum(p.numel() for p in net.parameters()) / 1e6:.2f} M" for name, net in self.players.items()}

    def warnings(self) -> list[str]:
        """What may disappoint, and what to do about it, a sentence each."""
        return []


def few_pictures(count: int) -> list[str]:
    """What to say about nets that begin from nothing with this many pictures."""
    if count >= FEW:
        return []
    given = f"{count} pictures are few to learn from when nothing is known yet; expect the model to repeat them"
    return [explain(given, "objective.start = 'default' goes on from a trained model")]
