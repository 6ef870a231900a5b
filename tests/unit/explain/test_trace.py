"""A trace in its file: the same when read back, never over another file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from undiffuse.core.errors import DataError, UsageError
from undiffuse.explain.recording import record
from undiffuse.explain.trace import Trace, check_place, read_trace, write_trace
from undiffuse.generation.generator import Generator
from undiffuse.generation.request import Request


@pytest.fixture(scope="module")
def trace(draw: Generator) -> Trace:
    return record(draw, Request("a fox", seed=3, steps=3))


def test_what_is_read_is_what_was_written(trace: Trace, tmp_path: Path) -> None:
    read = read_trace(write_trace(trace, tmp_path / "run.trace"))

    assert read.told == trace.told and read.words == trace.words and read.paths == trace.paths
    assert read.tensors.keys() == trace.tensors.keys()
    for name, value in trace.tensors.items():
        assert torch.equal(read.tensors[name].nan_to_num(7), value.nan_to_num(7)) and read.tensors[name].dtype == value.dtype
    assert read.told["request"]["prompt"] == "a fox" and read.told["versions"]["torch"] == torch.__version__
    assert list(tmp_path.iterdir()) == [tmp_path / "run.trace"]


def test_only_a_trace_is_overwritten(trace: Trace, tmp_path: Path) -> None:
    path = write_trace(trace, tmp_path / "run.trace")
    assert write_trace(trace, path) == path
    (tmp_path / "fox.png").write_bytes(b"a picture")
    with pytest.raises(UsageError, match=r"is there and no trace; only traces are overwritten; name another file"):
        check_place(tmp_path / "fox.png")
    with pytest.raises(UsageError, match="there is no folder"):
        check_place(tmp_path / "nowhere" / "run.trace")


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not there"):
        read_trace(tmp_path / "none")
    (tmp_path / "text").write_text("no trace")
    save_file({"x": torch.zeros(1)}, tmp_path / "tensors")
    for name in ("text", "tensors"):
        with pytest.raises(DataError, match=r"is no trace; a file that 'undiffuse trace' wrote is needed"):
            read_trace(tmp_path / name)


def test_a_truncated_file_is_refused(trace: Trace, tmp_path: Path) -> None:
    path = write_trace(trace, tmp_path / "run.trace")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match="is no trace"):
        read_trace(path)
