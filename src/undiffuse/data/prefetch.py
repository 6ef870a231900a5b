"""Making the next batch while this one is in use."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, Self, TypeVar

import torch

T = TypeVar("T")


class Prefetcher(Generic[T]):
    """Yields make(first_step), make(first_step + 1), ... and makes one ahead in a thread of its own.

    An error in `make` is raised by the `next` that would have returned its value. Close it, or use it in `with`.

    That thread computes alone: with helpers of its own it would keep cores from those of the thread that learns, which wait
    for each other many times a step (a quarter of a step on two cores).
    """

    def __init__(self, make: Callable[[int], T], first_step: int = 0) -> None:
        self._make = make
        self._step = first_step
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="prefetch")
        threads = torch.get_num_threads()
        self._pool.submit(_compute_alone).result()
        torch.set_num_threads(threads)  # what was set there counts there, and for threads that begin later
        self._ahead: Future[T] = self._pool.submit(make, first_step)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        value = self._ahead.result()
        self._step += 1
        self._ahead = self._pool.submit(self._make, self._step)
        return value

    def close(self) -> None:
        """Stop, waiting for the batch in the making."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()


def _compute_alone() -> None:
    """Have PyTorch use this thread alone from now on, for what is called in it."""
    torch.get_num_threads()  # a thread takes over the number of all others when it is first asked
    torch.set_num_threads(1)
