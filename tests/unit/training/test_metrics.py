"""Numbers on disk, after crashes too."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from undiffuse.training import metrics
from undiffuse.training.metrics import Metrics, read_log


@pytest.fixture(autouse=True)
def without_tensorboard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_tensorboard", lambda folder, first: None)


def write(folder: Path, steps: range, first: int = 0) -> None:
    log = Metrics(folder, first)
    for step in steps:
        log.write(step, {"net/loss": 1 / step})
    log.close()


def test_each_row_is_there_at_once(tmp_path: Path) -> None:
    log = Metrics(tmp_path)
    log.write(1, {"net/loss": 1 / 3})

    assert json.loads((tmp_path / "log.jsonl").read_text())["net/loss"] == 0.333333
    log.close()


def test_no_log_has_no_rows(tmp_path: Path) -> None:
    assert read_log(tmp_path) == []


def test_a_resumed_run_leaves_the_log_of_one_that_never_stopped(tmp_path: Path) -> None:
    write(tmp_path, range(1, 6))
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 6, "net/l')
    write(tmp_path, range(4, 9), first=3)

    assert [row["step"] for row in read_log(tmp_path)] == list(range(1, 9))
    assert [row["net/loss"] for row in read_log(tmp_path)] == pytest.approx([1 / step for step in range(1, 9)], rel=1e-5)


def test_lines_that_are_no_rows_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text('{"step": 1}\n{"st\n\n[1]\n{"step": 2}\n')

    assert [row["step"] for row in read_log(tmp_path)] == [1, 2]
