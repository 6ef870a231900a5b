"""Quantiles of the symmetric beta law, for one spacing; SciPy would be a large dependency for it."""

from __future__ import annotations

import math

import numpy as np

TERMS = 60  # below 1/2 each is less than half of the one before
HALVINGS = 60


def symmetric_beta(shares: np.ndarray, shape: float) -> np.ndarray:
    """Where Beta(shape, shape) has these shares (N,) in [0, 1] of itself below, by bisection."""
    low, high = np.zeros_like(shares), np.ones_like(shares)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        below = _share_below(middle, shape) < shares
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    found = (low + high) / 2
    return np.where(shares <= 0, 0.0, np.where(shares >= 1, 1.0, found))


def _share_below(x: np.ndarray, shape: float) -> np.ndarray:
    """The regularised incomplete beta function, by its series below 1/2 (DLMF 8.17.7) and by symmetry above."""
    near = np.minimum(x, 1 - x)
    total, term = np.zeros_like(x), np.ones_like(x)
    for n in range(TERMS):
        total = total + term / (shape + n)
        term = term * near * (n + 1 - shape) / (n + 1)
    share = near**shape * total * math.gamma(2 * shape) / math.gamma(shape) ** 2
    return np.where(x <= 0.5, share, 1 - share)
