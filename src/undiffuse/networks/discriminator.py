"""The patch discriminator that judges reconstructions (Isola et al. 2017)."""

from __future__ import annotations

from torch import Tensor, nn

from undiffuse.networks.blocks import group_norm

MOST_WIDENING = 8


class Discriminator(nn.Module):
    """Scores overlapping patches of a picture: positive for real, negative for made.

    4x4 convolutions with LeakyReLU 0.2, as in the original. Its BatchNorm is GroupNorm here: a picture's
    score then does not depend on what else is in the batch, nor on how many processes share it.

    Args:
        in_channels: colour channels.
        width: channels of the first layer; they double up to eightfold.
        layers: layers of stride 2; 3 see patches of 70x70 pixels.
    """

    def __init__(self, *, in_channels: int = 3, width: int = 64, layers: int = 3) -> None:
        super().__init__()
        parts: list[nn.Module] = [nn.Conv2d(in_channels, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        before = width
        for layer in range(1, layers + 1):
            after = width * min(2**layer, MOST_WIDENING)
            stride = 2 if layer < layers else 1
            parts += [
                nn.Conv2d(before, after, 4, stride=stride, padding=1, bias=False),
                group_norm(after, eps=1e-5),
                nn.LeakyReLU(0.2),
            ]
            before = after
        self.layers = nn.Sequential(*parts, nn.Conv2d(before, 1, 4, padding=1))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Scores (B, 1, h, w) of pictures (B, 3, H, W) in [-1, 1]."""
        return self.layers(x)
