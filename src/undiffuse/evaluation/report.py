"""Numbers with their uncertainty, and reports made of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields

import numpy as np

from undiffuse.core.errors import DataError, explain
from undiffuse.core.random import numpy_stream

Z_95 = 1.959963984540054
RESAMPLES = 2000


@dataclass(frozen=True)
class Figure:
    """A measured value, the number of pictures it rests on, and its 95 % interval."""

    value: float
    n: int
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}], n = {self.n}"


def proportion(hits: Sequence[bool]) -> Figure:
    """The share of hits with its Wilson score interval (Wilson 1927), which stays inside [0, 1] at every n.

    Raises:
        DataError: when nothing was measured.
    """
    n = _count(hits)
    share = sum(map(bool, hits)) / n
    spread = Z_95**2 / n
    middle = (share + spread / 2) / (1 + spread)
    half = Z_95 * math.sqrt(share * (1 - share) / n + spread / (4 * n)) / (1 + spread)
    return Figure(share, n, min(share, max(0.0, middle - half)), max(share, min(1.0, middle + half)))


def mean(values: Sequence[float]) -> Figure:
    """The mean with its bootstrap interval.

    Raises:
        DataError: when nothing was measured.
    """
    sample = np.asarray(values, dtype=np.float64)
    return bootstrap(_count(values), lambda chosen: float(sample[chosen].mean()))


def bootstrap(n: int, statistic: Callable[[np.ndarray], float]) -> Figure:
    """A statistic with its percentile bootstrap interval (Efron 1979), from 2,000 resamples of a fixed stream.

    Args:
        n: how many pictures were measured.
        statistic: the value for these pictures, indices (n,) in which some stand twice and some not at all.

    Raises:
        DataError: when nothing was measured.
    """
    _count(range(n))
    stream = numpy_stream("bootstrap", n)
    low, high = np.percentile([statistic(stream.integers(0, n, n)) for _ in range(RESAMPLES)], (2.5, 97.5))
    return Figure(statistic(np.arange(n)), n, float(low), float(high))


@dataclass(frozen=True)
class Report:
    """The base of reports: a record whose fields are all figures."""

    def figures(self) -> dict[str, Figure]:
        """The figures by name, in order."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def to_json(self) -> dict[str, dict[str, float]]:
        """Plain data: `{name: {value, n, low, high}}`."""
        return {name: asdict(figure) for name, figure in self.figures().items()}

    def table(self) -> str:
        """One aligned line a figure, under a line of headings."""
        figures = self.figures()
        width = max(len(name) for name in figures)
        lines = [f"{'':{width}}  {'value':>8}  {'95 % interval':^18}  {'n':>6}"]
        for name, figure in figures.items():
            interval = f"{figure.low:8.3f}  {figure.high:8.3f}"
            lines.append(f"{name.replace('_', ' '):{width}}  {figure.value:8.3f}  {interval}  {figure.n:6d}")
        return "\n".join(lines)


def _count(measured: Sequence[object]) -> int:
    if not len(measured):
        raise DataError(explain("nothing was measured", "a figure needs at least one picture", "evaluate on more pictures"))
    return len(measured)
