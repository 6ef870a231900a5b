"""Where numbers go: one JSON line a time in `log.jsonl`, TensorBoard when it is installed."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any


class Metrics:
    """Writes `log.jsonl` and, with the `[train]` extra, TensorBoard event files of the same numbers."""

    def __init__(self, folder: Path) -> None:
        self._file = (folder / "log.jsonl").open("a", encoding="utf-8")
        self._board = _tensorboard(folder / "tensorboard")

    def write(self, step: int, values: dict[str, float]) -> None:
        """Record the numbers of this step, at once."""
        row: dict[str, Any] = {"step": step, "time": round(time.time(), 3)}
        row.update({name: float(f"{value:.6g}") for name, value in values.items()})
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush and close both."""
        self._file.close()
        if self._board is not None:
            self._board.close()


def _tensorboard(folder: Path) -> Any | None:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder))


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The rows of a run's log; a last line that was cut off is left out."""
    rows = []
    for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows
