"""Where numbers go: one JSON line a time in `log.jsonl`, TensorBoard when it is installed."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from undiffuse.data.atomic import write_text

LOG = "log.jsonl"


class Metrics:
    """Writes `log.jsonl` and, with the `[train]` extra, TensorBoard event files of the same numbers.

    Rows of steps after `first` are dropped: they are of steps that were taken, lost in a crash, and are taken again.
    """

    def __init__(self, folder: Path, first: int = 0) -> None:
        rows = [row for row in read_log(folder) if row["step"] <= first]
        write_text(folder / LOG, "".join(json.dumps(row) + "\n" for row in rows))
        self._file = (folder / LOG).open("a", encoding="utf-8")
        self._board = _tensorboard(folder / "tensorboard", first)

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


def _tensorboard(folder: Path, first: int) -> Any | None:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=first + 1)


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The rows of a run's log, none when there is no log; lines that were cut off are left out."""
    path = folder / LOG
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(row, dict) and "step" in row:
            rows.append(row)
    return rows
