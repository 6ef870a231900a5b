"""`Resident`: arrays with a row for every rendering of every picture, kept where the nets are if they fit."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

SHARE = 0.4  # of the free memory of a GPU, for all arrays together


class Resident:
    """Rows (N * V, ...) of arrays (N, V, ...) on disk; rendering v of picture i is row i * V + v of its array.

    On a GPU with room for them they are copied there once. Otherwise rows are read when they are asked for.

    Args:
        arrays: memory maps of one type and shape of rows, each by the place of its first row; elsewhere rows are zero.
        device: where rows are needed.
        room: bytes that may be taken there; see `room_on`.
    """

    def __init__(self, arrays: Mapping[int, np.ndarray], device: torch.device, room: int) -> None:
        self.device = device
        needed = sum(array.nbytes for array in arrays.values())
        self.bytes = needed if device.type != "cpu" and needed <= room else 0
        self._rows = {first: array.reshape(-1, *array.shape[2:]) for first, array in arrays.items()}
        self._there = {first: torch.from_numpy(np.array(rows)).to(device) for first, rows in self._rows.items() if self.bytes}

    def __call__(self, places: Tensor) -> Tensor:
        """The rows at these places (B,), in the type that they are kept in."""
        if self._there:
            return self._gathered(places.to(self.device))
        return torch.from_numpy(self._read(places.cpu().numpy())).to(self.device)

    def _gathered(self, places: Tensor) -> Tensor:
        """The rows at these places, of what lies there: nothing waits for the host."""
        found = None
        for first, rows in self._there.items():
            inside = ((places >= first) & (places < first + len(rows))).view(-1, *(1,) * (rows.ndim - 1))
            some = rows[(places - first).clamp(0, len(rows) - 1)]
            found = torch.where(inside, some, torch.zeros_like(some) if found is None else found)
        assert found is not None
        return found

    def _read(self, places: np.ndarray) -> np.ndarray:
        example = next(iter(self._rows.values()))
        found = np.zeros((len(places), *example.shape[1:]), example.dtype)
        for first, rows in self._rows.items():
            inside = (places >= first) & (places < first + len(rows))
            found[inside] = rows[places[inside] - first]
        return found


def room_on(device: torch.device) -> int:
    """Bytes that arrays may take on a GPU; 0 elsewhere, for there they are read from disk."""
    return int(SHARE * torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else 0
