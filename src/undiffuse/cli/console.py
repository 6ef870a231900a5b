"""What commands print: lines and progress for people, one JSON document with `--json`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol


class Bar(Protocol):
    """Moves a progress bar to `done` of `total`, with a few words beside it."""

    def __call__(self, done: int, total: int, words: str = "") -> None: ...


class Console:
    """Lines go to standard output, progress and remarks to the error stream.

    With `json=True` there are no lines and no bars: the one `result` is all that standard output gets.
    """

    def __init__(self, json: bool = False) -> None:
        self.json = json

    @property
    def has_bars(self) -> bool:
        """Whether progress bars are seen: on a terminal, and not with `--json`."""
        return not self.json and sys.stderr.isatty()

    def say(self, line: str = "") -> None:
        """A line for people; nothing with `--json`."""
        if not self.json:
            print(line, flush=True)

    def remark(self, line: str) -> None:
        """A line beside the result, on the error stream."""
        if not self.json:
            print(line, file=sys.stderr, flush=True)

    def result(self, data: Any) -> None:
        """The document that `--json` asks for; nothing without it."""
        if self.json:
            print(json.dumps(data, indent=2, default=str), flush=True)

    @contextmanager
    def progress(self, title: str) -> Iterator[Bar]:
        """A progress bar on a terminal; elsewhere a bar that shows nothing."""
        if not self.has_bars:
            yield _silent
            return
        from rich.console import Console as Terminal
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[words]}"),
        )
        with Progress(*columns, console=Terminal(stderr=True), transient=True) as shown:
            task = shown.add_task(title, total=None, words="")
            yield lambda done, total, words="": shown.update(task, completed=done, total=total, words=words)


def _silent(done: int, total: int, words: str = "") -> None:
    """The bar that shows nothing."""
