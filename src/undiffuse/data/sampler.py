"""Which picture goes where: a pure function of (seed, step, slot), so that resuming needs one integer."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from undiffuse.core.random import numpy_stream


def slot_index(seed: int, step: int, slot: int, batch: int, count: int) -> tuple[int, int]:
    """The epoch and the index into a data set of `count` rows for one slot of one step.

    Each epoch visits every row once, in an order of its own; batches run on across its end.
    """
    epoch, place = divmod(step * batch + slot, count)
    return epoch, int(_order(seed, epoch, count)[place])


def batch_indices(seed: int, step: int, slots: range, batch: int, count: int) -> np.ndarray:
    """The indices (B,) of `slot_index` for these slots of one step, in one go."""
    epochs, places = np.divmod(step * batch + np.arange(slots.start, slots.stop), count)
    return np.concatenate([_order(seed, int(epoch), count)[places[epochs == epoch]] for epoch in np.unique(epochs)])


@lru_cache(maxsize=4)
def _order(seed: int, epoch: int, count: int) -> np.ndarray:
    return numpy_stream("order", seed, epoch).permutation(count)
