"""Maps of a batch, some of them missing, as one tensor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from undiffuse.conditioners.base import Size
from undiffuse.core.errors import SpecError, explain


def stack_maps(
    maps: Sequence[Any], channels: tuple[int, ...], size: Size | None, device: torch.device, empty: float = 0.0
) -> Tensor:
    """Maps (*channels, H, W), tensors or arrays, as one float32 batch (B, *channels, H, W); `empty` stands where one is None.

    Raises:
        SpecError: when all are missing and no size is given, or two differ in size.
    """
    found = [torch.as_tensor(value) for value in maps if value is not None]
    shapes = {tuple(value.shape) for value in found} or {(*channels, *size)} if size else {tuple(v.shape) for v in found}
    if len(shapes) != 1:
        given = f"maps of shapes {sorted(shapes)}" if shapes else "rows without a map, and no size"
        raise SpecError(explain(given, "one size for the whole batch is needed"))
    (shape,) = shapes
    rows = iter(found)
    filled = [torch.full(shape, empty) if value is None else next(rows).float() for value in maps]
    return torch.stack(filled).to(device)
