"""Making the next batch while this one is in use."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, Self, TypeVar

T = TypeVar("T")


class Prefetcher(Generic[T]):
    """Yields make(first_step), make(first_step + 1), ... and makes one ahead in a thread of its own.

    An error in `make` is raised by the `next` that would have returned its value. Close it, or use it in `with`.
    """

    def __init__(self, make: Callable[[int], T], first_step: int = 0) -> None:
        self._make = make
        self._step = first_step
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="prefetch")
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
