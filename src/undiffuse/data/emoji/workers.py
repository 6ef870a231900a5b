"""Drawing many pictures in order, in worker processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager

from undiffuse.data.emoji.raster import Drawing, Drawn, draw

DrawAll = Callable[[Iterable[Drawing]], Iterator[Drawn]]


@contextmanager
def drawers(processes: int | None) -> Iterator[DrawAll]:
    """A function that draws everything it is given, in order; one process draws right here.

    Processes rather than threads, because resvg holds the interpreter's lock while it draws.
    """
    count = processes or os.cpu_count() or 1
    if count == 1:
        yield lambda drawings: map(draw, drawings)
        return
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(count, mp_context=spawn, initializer=_leave_interrupts_to_the_parent) as pool:
        try:
            yield lambda drawings: pool.map(draw, drawings, chunksize=8)
        finally:
            pool.shutdown(cancel_futures=True)


def _leave_interrupts_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
