"""Which named colour a picture's background has."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

FRAME = 16  # the border that is looked at is 1/16 of the shorter side

# sRGB to XYZ under D65, and that white point (IEC 61966-2-1).
_XYZ = ((0.4124564, 0.3575761, 0.1804375), (0.2126729, 0.7151522, 0.0721750), (0.0193339, 0.1191920, 0.9503041))
_WHITE = (0.95047, 1.0, 1.08883)


def background_names(pixels: Tensor, colours: Mapping[str, tuple[int, int, int]]) -> list[str]:
    """For each picture the named colour nearest to its border, in CIELAB (CIE76 distance).

    The border is the outermost sixteenth on each side, its colour the median of each channel: an object
    that touches the frame does not count as background.

    Args:
        pixels: (B, 3, H, W) in [-1, 1].
        colours: the names to choose from, with 8-bit sRGB values.
    """
    names = list(colours)
    palette = to_lab(torch.tensor([colours[name] for name in names], dtype=torch.float64) / 255)  # (N, 3)
    seen = to_lab((border_colour(pixels).double() + 1) / 2)  # (B, 3)
    return [names[int(i)] for i in torch.cdist(seen, palette).argmin(dim=1)]


def border_colour(pixels: Tensor) -> Tensor:
    """The median colour (B, 3) of the border of pictures (B, 3, H, W), in the same range."""
    height, width = pixels.shape[-2:]
    thickness = max(1, min(height, width) // FRAME)
    inside = torch.zeros(height, width, dtype=torch.bool)
    inside[thickness : height - thickness, thickness : width - thickness] = True
    return pixels[..., ~inside.to(pixels.device)].median(dim=-1).values


def to_lab(rgb: Tensor) -> Tensor:
    """CIELAB (..., 3) of sRGB (..., 3) in [0, 1], values outside clipped (CIE 15:2004)."""
    rgb = rgb.clamp(0, 1)
    linear = torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = linear @ rgb.new_tensor(_XYZ).T / rgb.new_tensor(_WHITE)
    f = torch.where(xyz > (6 / 29) ** 3, xyz ** (1 / 3), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = f.unbind(-1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=-1)
