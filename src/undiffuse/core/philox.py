"""The random numbers of NVIDIA's GPUs, made on the CPU: Philox4x32-10 (Salmon et al. 2011) and cuRAND's normal.

PyTorch on a GPU gives every element of a tensor a counter of its own: (how often the generator was called, 0, which
element, 0), the seed is the key. Of the four words that come out the first two make one normal number.
"""

from __future__ import annotations

import numpy as np

ROUNDS = 10
FACTORS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
WEYL = (0x9E3779B9, 0xBB67AE85)
"""What the halves of the key grow by from round to round: golden ratio and square root of 3, less 1."""
WORD = 0xFFFFFFFF
LOW, HALF = np.uint64(WORD), np.uint64(32)
STEP = float(np.float32(2.3283064e-10))  # 2^-32 as cuRAND writes it
TURN = float(np.float32(np.float32(2.3283064e-10) * np.float32(6.2831855)))  # 2^-32 of a full turn


def philox4x32(counter: np.ndarray, key: tuple[int, int]) -> np.ndarray:
    """Four random words (4, N) in uint32 of each counter (4, N) under a key of two words (Salmon et al. 2011, section 3.3)."""
    a, b, c, d = (row.astype(np.uint64) for row in counter)
    k0, k1 = key
    for _ in range(ROUNDS):
        first, second = FACTORS[0] * a, FACTORS[1] * c
        a, b = (second >> HALF) ^ b ^ np.uint64(k0), second & LOW
        c, d = (first >> HALF) ^ d ^ np.uint64(k1), first & LOW
        k0, k1 = (k0 + WEYL[0]) & WORD, (k1 + WEYL[1]) & WORD
    return np.stack([a, b, c, d]).astype(np.uint32)


def cuda_normal(count: int, seed: int, call: int = 0, first: int = 0) -> np.ndarray:
    """Standard normal float32 numbers (count,): what `torch.randn` gives on a GPU from element `first` of its tensor on.

    It holds where the GPU has a thread for every element, which is 65,536 elements even on small ones; beyond that a
    thread fills several. A GPU takes sine and logarithm in float32, so that the last digit may differ.

    Args:
        count: how many.
        seed: of the generator, 64 bits.
        call: how many tensors the generator made before.
        first: the element that the first number belongs to.
    """
    counter = np.zeros((4, count), dtype=np.uint32)
    counter[0] = call
    counter[2] = np.arange(first, first + count, dtype=np.uint32)
    words = philox4x32(counter, (seed & WORD, seed >> 32 & WORD))
    u = words[0] * STEP + STEP / 2
    v = words[1] * TURN + TURN / 2
    return (np.sqrt(-2.0 * np.log(u)) * np.sin(v)).astype(np.float32)
