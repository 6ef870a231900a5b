"""A distance between pictures as a pretrained net sees them (Zhang et al. 2018), with or without their learned heads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Backbone(Protocol):
    """A net that gives feature maps (B, Ci, Hi, Wi) of pictures (B, 3, H, W) in [-1, 1]."""

    def features(self, x: Tensor) -> list[Tensor]: ...


class PerceptualDistance(nn.Module):
    """Squared distance of unit-length features at every position, mean over positions, summed over maps.

    The backbone is frozen; gradients pass through it to the pictures.

    Args:
        backbone: a `Backbone`.
        heads: for every map a weight (Ci,) a channel, as LPIPS has learned them; all 1 when left out.
    """

    def __init__(self, backbone: nn.Module, heads: Sequence[Tensor] | None = None) -> None:
        super().__init__()
        self.backbone = backbone.eval().requires_grad_(False)
        self.maps = None if heads is None else len(heads)
        for number, head in enumerate(heads or ()):
            self.register_buffer(f"head{number}", head.detach().view(1, -1, 1, 1), persistent=False)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Distances (B,) between pictures x and y (B, 3, H, W) in [-1, 1]."""
        pairs = zip(self._unit(x), self._unit(y), strict=True)
        apart = [(a - b).square() for a, b in pairs]  # (B, Ci, Hi, Wi)
        if self.maps is not None:
            apart = [self.get_buffer(f"head{number}") * squares for number, squares in enumerate(apart)]
        return torch.stack([squares.sum(1).mean((1, 2)) for squares in apart]).sum(0)

    def _unit(self, x: Tensor) -> list[Tensor]:
        return [F.normalize(features, dim=1, eps=1e-8) for features in self.backbone.features(x)]  # type: ignore[operator]

    def train(self, mode: bool = True) -> PerceptualDistance:
        """The backbone stays as it is: in inference."""
        return super().train(False)
