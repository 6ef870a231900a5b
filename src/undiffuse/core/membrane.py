"""What is known at some places of a picture or a map, continued smoothly over all others."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

SWEEPS = 12  # at every scale; those before have settled what is smooth


def continued(values: Tensor, known: Tensor) -> Tensor:
    """Values (C, H, W) where they are `known` (H, W); elsewhere each is about the mean of its four neighbours (Laplace).

    Where nothing is known they are 0. Solved at half the size first, and so on down: relaxation alone carries nothing over
    more than a few pixels.
    """
    if bool(known.all()):
        return values
    size = tuple(known.shape)
    if min(size) == 1:
        return torch.where(known, values, (values * known).sum((1, 2), keepdim=True) / known.sum().clamp_min(1))
    share = F.avg_pool2d(known[None].float(), 2, ceil_mode=True)  # (1, h, w)
    halved = F.avg_pool2d(values * known, 2, ceil_mode=True) / share.clamp_min(1e-6)
    coarse = continued(halved, share[0] > 0)
    x = torch.where(known, values, F.interpolate(coarse[None], size, mode="bilinear")[0])
    for _ in range(SWEEPS):
        near = F.pad(x[None], (1, 1, 1, 1), mode="replicate")[0]
        mean = (near[:, :-2, 1:-1] + near[:, 2:, 1:-1] + near[:, 1:-1, :-2] + near[:, 1:-1, 2:]) / 4
        x = torch.where(known, values, mean)
    return x
