"""`Resident`: an array with a row for every rendering of every picture, kept where the nets are if it fits."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

SHARE = 0.4  # of the free memory of a GPU, for all arrays together


class Resident:
    """Rows (N * V, ...) of an array (N, V, ...) on disk; rendering v of picture i is row i * V + v.

    On a GPU with room for it the whole array is copied there once. Otherwise rows are read when they are asked for.

    Args:
        array: a memory map.
        device: where rows are needed.
        room: bytes that may be taken there; see `room_on`.
    """

    def __init__(self, array: np.ndarray, device: torch.device, room: int) -> None:
        self.device = device
        self.bytes = array.nbytes if device.type != "cpu" and array.nbytes <= room else 0
        self._rows = array.reshape(-1, *array.shape[2:])
        self._there = torch.from_numpy(np.array(self._rows)).to(device) if self.bytes else None

    def __call__(self, places: Tensor) -> Tensor:
        """The rows at these places (B,), in the type that they are kept in."""
        if self._there is not None:
            return self._there[places.to(self.device)]
        return torch.from_numpy(np.asarray(self._rows[places.cpu().numpy()])).to(self.device)


def room_on(device: torch.device) -> int:
    """Bytes that arrays may take on a GPU; 0 elsewhere, for there they are read from disk."""
    return int(SHARE * torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else 0
