"""Laws by which training draws noise levels."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field

from undiffuse.core.random import Part, normal, uniform
from undiffuse.core.spec import Spec
from undiffuse.diffusion.level import Level
from undiffuse.diffusion.schedule import Schedule


class LawSpec(Spec):
    """uniform: every u alike. logit_normal: u = sigmoid(mean + std * n) (Esser et al. 2024, eq. 19)."""

    kind: Literal["uniform", "logit_normal"] = "uniform"
    mean: float = 0.0
    std: Annotated[float, Field(gt=0)] = 1.0


def draw_levels(spec: LawSpec, schedule: Schedule, count: int, *path: Part) -> Level:
    """Levels (count,) drawn by this law from the random stream of this path."""
    if spec.kind == "uniform":
        return schedule.training_level(uniform((count,), *path))
    return schedule.training_level(torch.sigmoid(spec.mean + spec.std * normal((count,), *path)))
