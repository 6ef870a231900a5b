"""`Conditioning` keeps its slots apart through joining, picking, mixing and moving."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from undiffuse.core.conditioning import Conditioning
from undiffuse.core.errors import SpecError


def words(batch: int, count: int) -> Conditioning:
    return Conditioning(tokens=torch.randn(batch, count, 4), token_mask=torch.ones(batch, count, dtype=torch.bool))


def test_an_empty_one_has_no_rows() -> None:
    assert len(Conditioning()) == 0
    assert Conditioning().slots() == {}


def test_joining_pads_the_shorter_rows() -> None:
    short, long = words(1, 2), words(2, 3)

    joined = Conditioning.cat([short, long])

    assert len(joined) == 3
    assert joined.tokens is not None and joined.token_mask is not None
    assert torch.equal(joined.tokens[:1, :2], short.tokens)
    assert joined.token_mask.tolist() == [[True, True, False], [True] * 3, [True] * 3]


def test_different_slots_cannot_be_joined() -> None:
    with pytest.raises(SpecError, match="every part must fill the same slots"):
        Conditioning.cat([words(1, 2), Conditioning(vector=torch.zeros(1, 2))])


@pytest.mark.parametrize("rows", [[0, 2], torch.tensor([0, 2]), slice(0, 3, 2)])
def test_rows_are_picked_in_order(rows: Sequence[int] | Tensor | slice) -> None:
    picked = Conditioning(vector=torch.arange(3.0).view(3, 1)).select(rows)

    assert picked.vector is not None
    assert picked.vector.tolist() == [[0], [2]]


def test_mixing_takes_each_row_from_one_side() -> None:
    ours, null = Conditioning(vector=torch.ones(2, 3)), Conditioning(vector=torch.zeros(2, 3))

    mixed = ours.where(torch.tensor([True, False]), null)

    assert mixed.vector is not None
    assert mixed.vector.tolist() == [[1, 1, 1], [0, 0, 0]]


def test_a_change_of_precision_leaves_the_mask_alone() -> None:
    moved = words(1, 2).to(dtype=torch.float64)

    assert moved.tokens is not None and moved.tokens.dtype == torch.float64
    assert moved.token_mask is not None and moved.token_mask.dtype == torch.bool
