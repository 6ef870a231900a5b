"""Weights of the loss by noise level, all relative to the squared error of x0."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from undiffuse.core.spec import Spec
from undiffuse.diffusion.level import Level


class WeightingSpec(Spec):
    """uniform: 1 on the net's own target. snr: snr on x0. min_snr: min(snr, gamma) on x0 (Hang et al. 2023, eq. 8)."""

    kind: Literal["uniform", "snr", "min_snr"] = "uniform"
    gamma: Annotated[float, Field(gt=0)] = 5.0


def weight(spec: WeightingSpec, level: Level, prediction: str) -> Tensor:
    """The factor (B,) on the mean squared error of the net's own target.

    A weight w on x0's error is w / c on the target's error, where c is how many times larger the latter is:
    eps: snr; v: (alpha^2 + sigma^2)^2 / sigma^2; flow: (alpha + sigma)^2 / sigma^2; x0: 1.
    """
    alpha, sigma = torch.as_tensor(level.alpha), torch.as_tensor(level.sigma)
    if spec.kind == "uniform":
        return torch.ones_like(alpha)
    # snr / c and 1 / c, each written so that neither end of a schedule gives 0 / 0
    if prediction == "eps":
        by_snr, by_one = torch.ones_like(alpha), sigma**2 / alpha**2
    elif prediction == "x0":
        by_snr, by_one = alpha**2 / sigma**2, torch.ones_like(alpha)
    else:
        scale = (alpha**2 + sigma**2) ** 2 if prediction == "v" else (alpha + sigma) ** 2
        by_snr, by_one = alpha**2 / scale, sigma**2 / scale
    return by_snr if spec.kind == "snr" else torch.minimum(by_snr, spec.gamma * by_one)
