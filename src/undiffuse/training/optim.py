"""Optimizers, the learning-rate curve and clipping."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from undiffuse.training.muon import Muon
from undiffuse.training.recipe import OptimizerSpec


def learning_rate(spec: OptimizerSpec, step: int, steps: int) -> float:
    """Rate at `step` of `steps`: linear warm-up, a plateau for the share `hold`, then decay to 0.

    The last step still moves: decay reaches 0 at `steps`, which is never taken.
    """
    warm = min(1.0, (step + 1) / max(1, spec.warmup))
    start = spec.hold * steps
    if spec.decay == "none" or step < start:
        return spec.rate * warm
    progress = (step - start) / max(1.0, steps - start)
    fall = 1 - progress if spec.decay == "linear" else 0.5 * (1 + math.cos(math.pi * progress))
    return spec.rate * warm * fall


def build_optimizer(spec: OptimizerSpec, net: nn.Module) -> torch.optim.Optimizer:
    """The optimizer over the trainable parameters; weight decay only on matrices and kernels, as is customary."""
    trained = [p for p in net.parameters() if p.requires_grad]
    if spec.kind == "muon":
        return Muon(trained, lr=spec.rate, betas=spec.betas, momentum=spec.momentum, weight_decay=spec.weight_decay)
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": spec.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=spec.rate, betas=spec.betas, fused=True)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every group of the optimizer this learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def clip(parameters: Iterable[Tensor], limit: float) -> Tensor:
    """Scale gradients down to the global L2 norm `limit`; returns the norm before."""
    return nn.utils.clip_grad_norm_(parameters, limit)
