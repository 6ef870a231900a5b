"""VGG16 without its classifier: the backbone whose features LPIPS compares (Simonyan & Zisserman 2015, configuration D)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTHS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of pixels in [0, 1]


class Vgg(nn.Module):
    """3x3 convolutions with ReLU in stages, a 2x2 maximum between stages; for pixels in [-1, 1].

    Args:
        widths: channels of every convolution, stage by stage; VGG16's by default.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, widths: Sequence[Sequence[int]] = WIDTHS) -> None:
        super().__init__()
        self.stages = nn.ModuleList()
        before = 3
        for stage in widths:
            convolutions: list[nn.Module] = []
            for width in stage:
                convolutions.append(nn.Conv2d(before, width, 3, padding=1))
                before = width
            self.stages.append(nn.ModuleList(convolutions))
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
        self.register_buffer("mean", 2 * mean - 1, persistent=False)
        self.register_buffer("std", 2 * std, persistent=False)

    def features(self, x: Tensor) -> list[Tensor]:
        """The last map of every stage, finest first; both sides of x (B, 3, H, W) must be 16 or more for five stages."""
        x = (x - self.mean) / self.std
        maps: list[Tensor] = []
        for stage in self.stages:
            x = F.max_pool2d(maps[-1], 2) if maps else x
            for convolution in stage:  # type: ignore[attr-defined]
                x = F.relu(convolution(x))
            maps.append(x)
        return maps
