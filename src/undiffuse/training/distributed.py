"""One process or many: `torchrun` starts them, this file tells each its share of the batch.

A batch has slots 0..batch-1 and every slot's content is a function of (seed, step, slot), so that the pictures
of a step are the same on one process and on eight.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from importlib import import_module

import torch
from torch import Tensor, nn
from torch import distributed as dist

from undiffuse.core.errors import UsageError, explain

PATIENCE = timedelta(hours=12)  # the first process alone encodes the data set; the others wait for it


@dataclass(frozen=True)
class Workers:
    """How many processes train together, which one this is, and where its messages lie."""

    rank: int = 0
    count: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

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

    def average(self, tensor: Tensor) -> Tensor:
        """The mean of this tensor over all processes."""
        if self.count == 1:
            return tensor
        shared = tensor.detach().clone()
        dist.all_reduce(shared)
        return shared / self.count

    def average_gradients(self, net: nn.Module) -> None:
        """Average gradients over all processes, in one message."""
        if self.count == 1:
            return
        gradients = [p.grad for p in net.parameters() if p.grad is not None]
        flat = self.average(torch.cat([g.flatten() for g in gradients]))
        offset = 0
        for gradient in gradients:
            gradient.copy_(flat[offset : offset + gradient.numel()].view_as(gradient))
            offset += gradient.numel()

    def average_numbers(self, numbers: Mapping[str, float]) -> dict[str, float]:
        """The mean of each number over all processes."""
        if self.count == 1:
            return dict(numbers)
        mean = self.average(torch.tensor(list(numbers.values()), dtype=torch.float32, device=self.device))
        return dict(zip(numbers, mean.tolist(), strict=True))

    def any(self, flag: bool) -> bool:
        """Whether this holds in some process; all get the same answer."""
        return flag if self.count == 1 else bool(self.average(torch.tensor(float(flag), device=self.device)) > 0)

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
    """Join the process group that `torchrun` announced in the environment, or stand alone; each GPU takes one process."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Workers(device=device)
    if device.type == "cuda":
        local = int(os.environ.get("LOCAL_RANK", "0"))
        device = torch.device("cuda", local % torch.cuda.device_count())
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        # Its functions take the group of the moment they are made in as their default. Made while ours stands, as the first
        # optimiser would, they keep it for ever, and its threads, left to the end of the process, may abort it.
        import_module("torch.distributed.nn.functional")
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    return Workers(dist.get_rank(), dist.get_world_size(), device)


def leave_workers() -> None:
    """Take leave of the process group, if there is one."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()
