"""Weights of the loss by noise level, all relative to the squared error of x0."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from undiffuse.core.spec import Spec
from undiffuse.diffusion.level import Level


class WeightingSpec(Spec):
    """uniform: 1 on the net's own target. snr: snr on x0. min_snr: min(snr, gamma) on x0 (Hang et al. 2023, eq. 8)."""

    kind: Literal["uniform", "snr", "min_snr"] = "uniform"
    gamma: float = 5.0


def weight(spec: WeightingSpec, level: Level, prediction: str) -> Tensor:
    """The factor (B,) on the mean squared error of the net's own target.

    A weight w on x0's error is w / c on the target's error, where c is how many times larger the latter is:
    eps: snr; v: (alpha^2 + sigma^2)^2 / sigma^2; flow: (alpha + sigma)^2 / sigma^2; x0: 1.
    """
    alpha, sigma = torch.as_tensor(level.alpha), torch.as_tensor(level.sigma)
    if spec.kind == "uniform":
        return torch.ones_like(alpha)
    # everything times sigma^2, so that nothing divides by a vanishing sigma
    wanted = alpha**2 if spec.kind == "snr" else torch.minimum(alpha**2, spec.gamma * sigma**2)
    scale = {
        "eps": alpha**2,
        "x0": sigma**2,
        "v": (alpha**2 + sigma**2) ** 2,
        "flow": (alpha + sigma) ** 2,
    }[prediction]
    return wanted / scale
