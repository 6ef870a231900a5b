"""Gradients of every conditioner part that learns, against differences in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.autograd import gradcheck

from undiffuse.conditioners.base import ConditionerPart
from undiffuse.conditioners.boxes import BoxesConditioner
from undiffuse.conditioners.labels import LabelConditioner
from undiffuse.conditioners.lookalike import LookalikeConditioner
from undiffuse.conditioners.maps import MapConditioner
from undiffuse.core.random import normal

LAYOUT = torch.arange(16).view(4, 4) % 2
BOXES = {"boxes": torch.tensor([[0.1, 0.2, 0.5, 0.9], [0, 0, 1, 1]]), "box_labels": torch.tensor([1, -1])}
PARTS: list[tuple[ConditionerPart, dict[str, Any]]] = [
    (LabelConditioner(["fox", "boat"], 3), {"label": "boat"}),
    (LabelConditioner(["fox", "boat"], 3, route="tokens"), {"label": "fox"}),
    (MapConditioner(["sky", "ground"], 2, 2), {"layout": LAYOUT}),
    (BoxesConditioner(["fox", "boat"], 2, 2), BOXES),
    (LookalikeConditioner(3, 2, None), {"like": torch.tensor([1.0, -2.0, 0.5])}),
    (LookalikeConditioner(3, 2, 2), {"like": torch.tensor([1.0, -2.0, 0.5])}),
]


@pytest.mark.parametrize(("part", "row"), PARTS, ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "")
def test_every_weight_of_a_part_learns(part: ConditionerPart, row: dict[str, Any]) -> None:
    part = part.double()
    names = [name for name, _ in part.named_parameters()]
    weights = [normal(p.shape, "test", name).double().requires_grad_() for name, p in part.named_parameters()]

    def slots(*values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        cond = torch.func.functional_call(part, dict(zip(names, values, strict=True)), ([row, {}], (2, 2)))
        return tuple(value for value in cond.slots().values() if value.is_floating_point())

    assert gradcheck(slots, weights)
