"""Philox against the vectors of its authors, and the normal numbers against those that A1111 publishes."""

from __future__ import annotations

import numpy as np
import pytest

from undiffuse.core.philox import cuda_normal, philox4x32

# counter, key, result: "philox4x32 10" in tests/kat_vectors of Random123 (Salmon et al. 2011)
KNOWN = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]
# what AUTOMATIC1111's rng_philox.py says that a generator with seed 0 gives first, in the shape (3, 4)
PUBLISHED = [
    *(-0.92466259, -0.42534415, -2.6438457, 0.14518388),
    *(-0.12086647, -0.57972564, -0.62285122, -0.32838709),
    *(-1.07454231, -0.36314407, -1.67105067, 2.26550497),
]


def words(text: str) -> list[int]:
    return [int(word, 16) for word in text.split()]


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN)
def test_known_answers(counter: str, key: str, expected: str) -> None:
    k0, k1 = words(key)
    found = philox4x32(np.array(words(counter), dtype=np.uint32)[:, None], (k0, k1))

    assert found[:, 0].tolist() == words(expected)


def test_the_numbers_of_a_gpu_as_published() -> None:
    assert np.allclose(cuda_normal(12, 0), PUBLISHED, rtol=0, atol=5e-7)


def test_every_element_has_numbers_of_its_own() -> None:
    whole = cuda_normal(96, 5, call=3)

    assert np.array_equal(cuda_normal(32, 5, call=3, first=64), whole[64:])
    assert not np.allclose(cuda_normal(96, 5, call=4), whole)
    assert not np.allclose(cuda_normal(96, 5 + 2**32, call=3), whole)


def test_they_are_standard_normal() -> None:
    found = cuda_normal(100_000, 2**64 - 1).astype(np.float64)

    assert abs(found.mean()) < 0.02
    assert abs(found.var() - 1) < 0.02
    assert abs((found**4).mean() - 3) < 0.15
