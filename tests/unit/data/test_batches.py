from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from undiffuse.core.errors import DataError
from undiffuse.data.prefetch import Prefetcher
from undiffuse.data.sampler import slot_index


def test_every_epoch_visits_every_row_once() -> None:
    slots = [slot_index(7, step, slot, batch=4, count=10) for step in range(5) for slot in range(4)]
    assert [epoch for epoch, _ in slots] == [0] * 10 + [1] * 10
    first, second = [i for e, i in slots if e == 0], [i for e, i in slots if e == 1]
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second and first != list(range(10))


def test_slots_depend_on_nothing_but_their_numbers() -> None:
    forward = [slot_index(1, step, 0, 2, 50) for step in range(200)]
    backward = [slot_index(1, step, 0, 2, 50) for step in reversed(range(200))]
    assert forward == backward[::-1]
    assert forward != [slot_index(2, step, 0, 2, 50) for step in range(200)]


def test_values_come_in_order_and_one_ahead() -> None:
    made: list[int] = []
    second = threading.Event()

    def make(step: int) -> int:
        made.append(step)
        if step == 4:
            second.set()
        return step * 10

    with Prefetcher(make, first_step=3) as batches:
        assert next(batches) == 30
        assert second.wait(5)
        assert made == [3, 4]
        assert [next(batches), next(batches)] == [40, 50]


def test_errors_are_raised_where_the_value_would_have_come() -> None:
    def make(step: int) -> int:
        if step == 1:
            raise DataError("step 1 is damaged.")
        return step

    with Prefetcher(make) as batches:
        assert next(batches) == 0
        for _ in range(2):
            with pytest.raises(DataError, match="step 1"):
                next(batches)


def test_close_ends_the_thread() -> None:
    before = threading.active_count()
    batches = Prefetcher(lambda step: step)
    next(batches)
    batches.close()
    assert threading.active_count() == before


def test_what_makes_batches_takes_no_core_from_what_learns() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with Prefetcher(lambda step: torch.get_num_threads()) as batches:
            assert next(batches) == 1
            assert torch.get_num_threads() == 2
        with ThreadPoolExecutor() as pool:
            assert pool.submit(torch.get_num_threads).result() == 2
    finally:
        torch.set_num_threads(before)
