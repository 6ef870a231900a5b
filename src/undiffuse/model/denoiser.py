"""`Denoiser`: a network, its schedule and what it predicts, behind the one verb `denoise(x, level, cond) -> x0`."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from undiffuse.core.conditioning import Conditioning
from undiffuse.diffusion.level import Level
from undiffuse.diffusion.prediction import to_x0
from undiffuse.diffusion.schedule import Schedule
from undiffuse.networks.resting import working_dtype


class Network(Protocol):
    """What a denoising network offers: raw output from x (B, C, h, w), t (B,) and its conditioning."""

    def __call__(self, x: Tensor, t: Tensor, cond: Conditioning) -> Tensor: ...


class Denoiser(nn.Module):
    """Calling it answers "what is clean here?"; eps, v, x0 and flow predictions disappear behind it."""

    def __init__(self, network: nn.Module, schedule: Schedule, prediction: str) -> None:
        super().__init__()
        self.network = network
        self.schedule = schedule
        self.prediction = prediction

    def forward(self, x: Tensor, level: Level, cond: Conditioning) -> Tensor:
        """Clean estimate (B, C, h, w) of x (B, C, h, w) at `level` (scalars or (B,)), in x's own precision."""
        rows = level.expand(len(x), x.device)
        dtype = working_dtype(self.network)
        output = self.network(x.to(dtype), torch.as_tensor(rows.t).float(), cond.to(x.device, dtype))
        return to_x0(self.prediction, output.to(x.dtype), x, rows)
