"""EfficientNet-Lite0: a small ImageNet classifier whose features compare pictures (Tan & Le 2019, arXiv 1905.11946).

Lite differs from EfficientNet-B0 by ReLU6 in place of swish and by the absence of squeeze-and-excitation.
Batch norms are folded into the convolutions before them: the net is a fixed measuring instrument, and
without running statistics it measures the same in training and evaluation mode.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn


class Stage(NamedTuple):
    """Blocks of one width; the first one strides."""

    blocks: int
    kernel: int
    stride: int
    expansion: int
    width: int


LITE0 = (
    Stage(blocks=1, kernel=3, stride=1, expansion=1, width=16),
    Stage(blocks=2, kernel=3, stride=2, expansion=6, width=24),
    Stage(blocks=2, kernel=5, stride=2, expansion=6, width=40),
    Stage(blocks=3, kernel=3, stride=2, expansion=6, width=80),
    Stage(blocks=3, kernel=5, stride=1, expansion=6, width=112),
    Stage(blocks=4, kernel=5, stride=2, expansion=6, width=192),
    Stage(blocks=1, kernel=3, stride=1, expansion=6, width=320),
)


class EfficientNet(nn.Module):
    """The classifier and its two kinds of features, for pixels in [-1, 1] of any size; 224 is what it was trained at."""

    def __init__(self, *, stages: Sequence[Stage] = LITE0, stem: int = 32, head: int = 1280, classes: int = 1000) -> None:
        super().__init__()
        self.stem = SameConv2d(3, stem, kernel_size=3, stride=2)
        blocks: list[InvertedBottleneck] = []
        width = stem
        for stage in stages:
            for i in range(stage.blocks):
                stride = stage.stride if i == 0 else 1
                blocks.append(InvertedBottleneck(width, stage.width, stage.expansion, stage.kernel, stride))
                width = stage.width
        self.blocks = nn.ModuleList(blocks)
        self.head = SameConv2d(width, head, kernel_size=1)
        self.classifier = nn.Linear(head, classes)

    def features(self, x: Tensor) -> list[Tensor]:
        """The last map of every resolution, finest first.

        Args:
            x: pixels (B, 3, H, W) in [-1, 1].

        Returns:
            For Lite0 five maps of 16, 24, 40, 112 and 320 channels at 1/2, 1/4, 1/8, 1/16 and 1/32 of the size.
        """
        x = F.relu6(self.stem(_to_lite_range(x)))  # (B, 32, H/2, W/2)
        maps = [x]
        for block in self.blocks:
            x = block(x)
            if x.shape[-2:] == maps[-1].shape[-2:]:
                maps[-1] = x
            else:
                maps.append(x)
        return maps

    def embed(self, x: Tensor) -> Tensor:
        """One vector a picture: pixels (B, 3, H, W) in [-1, 1] to (B, 1280), what the classifier sees."""
        coarsest = self.features(x)[-1]  # (B, 320, H/32, W/32)
        return F.relu6(self.head(coarsest)).mean(dim=(2, 3))  # (B, 1280)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, 1000) of the ImageNet classes for pixels (B, 3, H, W) in [-1, 1]."""
        return self.classifier(self.embed(x))


class InvertedBottleneck(nn.Module):
    """MBConv: widen, filter each channel by itself, narrow without an activation (Sandler et al. 2018, fig. 3b)."""

    def __init__(self, width_in: int, width_out: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        inner = width_in * expansion
        self.expand = SameConv2d(width_in, inner, kernel_size=1) if expansion > 1 else None
        self.depthwise = SameConv2d(inner, inner, kernel_size=kernel, stride=stride, groups=inner)
        self.project = SameConv2d(inner, width_out, kernel_size=1)
        self.residual = stride == 1 and width_in == width_out

    def forward(self, x: Tensor) -> Tensor:
        h = x  # (B, C, H, W)
        if self.expand is not None:
            h = F.relu6(self.expand(h))  # (B, 6C, H, W)
        h = F.relu6(self.depthwise(h))  # (B, 6C, H/stride, W/stride)
        h = self.project(h)  # (B, width_out, H/stride, W/stride)
        return x + h if self.residual else h


class SameConv2d(nn.Conv2d):
    """A convolution padded as TensorFlow's SAME: when the padding is odd, the extra row and column come last."""

    def forward(self, input: Tensor) -> Tensor:
        top, bottom = _same_padding(input.shape[-2], self.kernel_size[0], self.stride[0])
        left, right = _same_padding(input.shape[-1], self.kernel_size[1], self.stride[1])
        if top == bottom and left == right:
            return F.conv2d(input, self.weight, self.bias, self.stride, (top, left), groups=self.groups)
        padded = F.pad(input, (left, right, top, bottom))
        return F.conv2d(padded, self.weight, self.bias, self.stride, groups=self.groups)


def _same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def _to_lite_range(x: Tensor) -> Tensor:
    """From [-1, 1] to the range of the original training, (byte - 127) / 128."""
    return (x * 127.5 + 0.5) / 128
