"""What the weights of tokens do to a text encoder's states: the arithmetic of two programs."""

from __future__ import annotations

import torch
from torch import Tensor


def stressed(states: Tensor, weights: Tensor) -> Tensor:
    """A1111's: states (C, N, D) of chunks times the weights (C, N), each chunk brought back to the mean that it had."""
    weighted = states * weights[..., None].to(states)
    changed = (weights != 1).any(1)[:, None, None]
    ratio = states.mean((1, 2), keepdim=True) / weighted.mean((1, 2), keepdim=True)
    return torch.where(changed, weighted * ratio, states)


def interpolated(states: Tensor, weights: Tensor, empty: Tensor) -> Tensor:
    """ComfyUI's: states (C, N, D) of chunks led away from those of the empty prompt (N, D) by the weights (C, N)."""
    by = weights[..., None].to(states)
    return torch.where(by == 1, states, empty + by * (states - empty))
