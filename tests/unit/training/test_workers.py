"""Shares of a batch; what many processes do together is tested in invariants/test_distributed.py."""

from __future__ import annotations

import pytest
import torch

from undiffuse.core.errors import UsageError
from undiffuse.training.distributed import Workers, join_workers


def test_the_slots_of_all_processes_make_the_batch() -> None:
    shares = [Workers(rank, 4).slots(12) for rank in range(4)]

    assert [slot for share in shares for slot in share] == list(range(12))
    assert [Workers(rank, 4).leads for rank in range(4)] == [True, False, False, False]


def test_a_batch_that_does_not_divide_is_refused() -> None:
    with pytest.raises(UsageError, match="a batch of 10 for 4 processes; the batch must be a multiple"):
        Workers(0, 4).slots(10)


def test_one_process_alone_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    alone = join_workers(torch.device("cpu"))
    tensor = torch.arange(3.0)

    assert (alone.rank, alone.count) == (0, 1)
    assert alone.average(tensor) is tensor
    assert alone.average_numbers({"loss": 0.1}) == {"loss": 0.1}
    assert alone.any(True) and not alone.any(False)
    assert alone.slots(5) == range(5)
