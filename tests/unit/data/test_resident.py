"""Rows of an array on disk, by the place of a rendering."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from undiffuse.data.resident import Resident, room_on
from undiffuse.data.sampler import batch_indices, slot_index

CPU = torch.device("cpu")


def test_rendering_v_of_picture_i_lies_at_i_times_variants_plus_v(tmp_path: Path) -> None:
    array = np.memmap(tmp_path / "x", dtype=np.float16, mode="w+", shape=(4, 3, 2))
    array[:] = np.arange(24).reshape(4, 3, 2)
    rows = Resident({0: array}, CPU, room_on(CPU))(torch.tensor([2 * 3 + 1, 0, 2 * 3 + 1]))
    assert rows.dtype == torch.float16 and rows.tolist() == [array[2, 1].tolist(), array[0, 0].tolist(), array[2, 1].tolist()]


def test_on_the_cpu_nothing_is_copied(tmp_path: Path) -> None:
    array = np.memmap(tmp_path / "x", dtype=np.uint8, mode="w+", shape=(2, 1, 5))
    assert Resident({0: array}, CPU, 10**9).bytes == 0 == room_on(CPU)


def test_a_whole_array_gives_the_rows_that_reading_gives() -> None:
    array = np.arange(12, dtype=np.uint8).reshape(2, 3, 2)
    near = Resident({0: array}, CPU, 0)
    near._there = {0: torch.from_numpy(array.reshape(6, 2).copy())}  # as on a device with room
    places = torch.tensor([5, 1])
    assert torch.equal(near(places), Resident({0: array}, CPU, 0)(places))


def test_a_batch_has_the_indices_of_its_slots_across_epochs() -> None:
    for step in range(5):
        found = batch_indices(7, step, range(2, 9), 9, 10)
        assert found.tolist() == [slot_index(7, step, slot, 9, 10)[1] for slot in range(2, 9)]


@pytest.mark.parametrize("near", [False, True], ids=["read from disk", "as on a device with room"])
def test_arrays_lie_one_after_another_and_rows_of_none_are_zero(near: bool) -> None:
    one, other = np.arange(1, 7, dtype=np.uint8).reshape(2, 3, 1), np.arange(11, 13, dtype=np.uint8).reshape(2, 1, 1)
    rows = Resident({0: one, 9: other}, CPU, 0)
    if near:
        rows._there = {0: torch.from_numpy(one.reshape(6, 1)), 9: torch.from_numpy(other.reshape(2, 1))}
    assert rows(torch.tensor([5, 10, 7, 9, 0])).tolist() == [[6], [12], [0], [11], [1]]
