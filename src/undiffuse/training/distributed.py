"""One process or many: `torchrun` starts them, this file tells each its share of the batch.

A batch has slots 0..batch-1 and every slot's content is a function of (seed, step, slot), so that the pictures
of a step are the same on one process and on eight.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import distributed as dist
from torch import nn

from undiffuse.core.errors import UsageError, explain


@dataclass(frozen=True)
class Workers:
    """How many processes train together, and which one this is."""

    rank: int = 0
    count: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.rank == 0

    def slots(self, batch: int) -> range:
        """The slots of the batch that this process computes.

        Raises:
            UsageError: when the batch cannot be divided among the processes.
        """
        if batch % self.count:
            given = f"a batch of {batch} for {self.count} processes"
            raise UsageError(explain(given, "the batch must be a multiple of the processes", "change run.batch"))
        share = batch // self.count
        return range(self.rank * share, (self.rank + 1) * share)

    def average_gradients(self, net: nn.Module) -> None:
        """Average gradients over all processes, in one message."""
        if self.count == 1:
            return
        gradients = [p.grad for p in net.parameters() if p.grad is not None]
        flat = torch.cat([g.flatten() for g in gradients])
        dist.all_reduce(flat)
        flat /= self.count
        offset = 0
        for gradient in gradients:
            gradient.copy_(flat[offset : offset + gradient.numel()].view_as(gradient))
            offset += gradient.numel()

    def share_weights(self, nets: Iterable[nn.Module]) -> None:
        """Give every process the weights of the first."""
        if self.count == 1:
            return
        for net in nets:
            for tensor in net.state_dict().values():
                dist.broadcast(tensor, src=0)

    def wait(self) -> None:
        """Wait until every process has come here."""
        if self.count > 1:
            dist.barrier()


def join_workers(device: torch.device) -> Workers:
    """Join the process group that `torchrun` announced in the environment, or stand alone."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        return Workers()
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return Workers(dist.get_rank(), dist.get_world_size())


def leave_workers() -> None:
    """Take leave of the process group, if there is one."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()
