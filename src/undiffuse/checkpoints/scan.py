"""Tensors with NaN, infinity or nothing but zeros in them, looked for one by one and without torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from undiffuse.checkpoints.headers import read_header

FLOATS = {"F64": np.dtype("<f8"), "F32": np.dtype("<f4"), "F16": np.dtype("<f2")}
BITS = {
    "BF16": (np.dtype("<u2"), 0x7F80, 0x007F),
    "F8_E5M2": (np.dtype("u1"), 0x7C, 0x03),
}
"""Types that NumPy lacks: the bits of the exponent, which are all set in NaN and infinity, and of the mantissa."""
E4M3_NAN = 0x7F  # of 8 bits without infinity: the only one that is no number
CHUNK = 1 << 24  # bytes at once


@dataclass(frozen=True)
class Fault:
    """A tensor with something the matter: how many of its numbers are NaN or infinite, or whether all are zero."""

    name: str
    nan: int
    infinite: int
    zero: bool
    size: int

    def __str__(self) -> str:
        if self.zero:
            return f"{self.name}: all {self.size} numbers are 0"
        return f"{self.name}: {self.nan} NaN, {self.infinite} infinite of {self.size}"


def faults(path: Path) -> Iterator[Fault]:
    """The tensors of a safetensors file that hold NaN or infinity, and matrices of zeros; memory of a chunk is needed.

    Raises:
        CheckpointError, UnknownFormat: as `read_header`.
    """
    header = read_header(path)
    header.pop("__metadata__", None)
    with path.open("rb") as file:
        start = 8 + int.from_bytes(file.read(8), "little")
        for name, tensor in header.items():
            first, last = tensor["data_offsets"]
            nan = infinite = nonzero = 0
            for place in range(first, last, CHUNK):
                file.seek(start + place)
                counts = _counted(tensor["dtype"], file.read(min(CHUNK, last - place)))
                nan, infinite, nonzero = nan + counts[0], infinite + counts[1], nonzero + counts[2]
            zero = last > first and not nonzero and len(tensor["shape"]) > 1
            if nan or infinite or zero:
                yield Fault(name, nan, infinite, zero, int(np.prod(tensor["shape"])))


def _counted(kind: str, data: bytes) -> tuple[int, int, int]:
    """How many are NaN, infinite, and not zero."""
    bits: Any
    if kind in FLOATS:
        numbers = np.frombuffer(data, FLOATS[kind])
        return int(np.isnan(numbers).sum()), int(np.isinf(numbers).sum()), int(np.count_nonzero(numbers))
    if kind in BITS:
        unsigned, exponent, mantissa = BITS[kind]
        bits = np.frombuffer(data, unsigned)
        odd = (bits & exponent) == exponent
        nan = odd & ((bits & mantissa) != 0)
        return int(nan.sum()), int(odd.sum() - nan.sum()), int(np.count_nonzero(bits & (exponent | mantissa)))
    bits = np.frombuffer(data, np.uint8)
    nans = int(((bits & E4M3_NAN) == E4M3_NAN).sum()) if kind == "F8_E4M3" else 0
    return nans, 0, int(np.count_nonzero(bits))
