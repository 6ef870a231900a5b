"""`undiffuse trace`: one file a run, and two runs told apart."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from undiffuse.cli.main import run
from undiffuse.explain.trace import read_trace

Trace = Callable[..., Path]


@pytest.fixture
def trace(tiny_folder: Path, tmp_path: Path) -> Trace:
    """Record a drawing with the tiny model, two steps."""

    def command(name: str, *words: str) -> Path:
        path = tmp_path / name
        options = ["--model", str(tiny_folder), "--steps", "2", "--device", "cpu", "--precision", "fp32"]
        assert run(["trace", *words, *options, "--out", str(path)]) == 0
        return path

    return command


def test_a_trace_holds_the_picture_that_generate_draws(
    trace: Trace, tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = trace("run.trace", "a fox", "--seed", "7")
    assert capsys.readouterr().out == f"{path}\n"
    out = ["--out", str(tmp_path / "out"), "--precision", "fp32"]
    assert run(["generate", "a fox", "--seed", "7", "--steps", "2", "--model", str(tiny_folder), *out]) == 0

    held = read_trace(path)
    with Image.open(tmp_path / "out" / "00000-7.png") as picture:
        assert held.picture.tobytes() == picture.convert("RGB").tobytes()
        assert held.told == json.loads(picture.info["undiffuse"])


def test_a_picture_of_a_batch_is_traced_again(trace: Trace, tiny_folder: Path, tmp_path: Path) -> None:
    out = ["--out", str(tmp_path / "out"), "--model", str(tiny_folder), "--steps", "2"]
    assert run(["generate", "a fox", "--seed", "7", "--count", "3", *out]) == 0
    path = tmp_path / "out" / "00001-8.png"
    assert run(["trace", "--from", str(path), "--model", str(tiny_folder), "--out", str(tmp_path / "run.trace")]) == 0

    with Image.open(path) as picture:
        assert read_trace(tmp_path / "run.trace").picture.tobytes() == picture.convert("RGB").tobytes()


def test_machines_get_every_step(trace: Trace, capsys: pytest.CaptureFixture[str]) -> None:
    trace("run.trace", "a fox", "--seed", "7", "--json")
    told = json.loads(capsys.readouterr().out)
    assert [row["step"] for row in told["steps"]] == [0, 1]
    assert told["words"] == ["a", "fox"] and told["request"]["seed"] == 7 and told["layers"]


def test_the_same_run_parts_nowhere(trace: Trace, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [trace(name, "a fox", "--seed", "7") for name in ("a", "b")]
    capsys.readouterr()
    assert run(["trace", "diff", *map(str, paths)]) == 0
    assert capsys.readouterr().out == "the same in every step and every pixel\n"


def test_a_difference_is_told_with_its_cause(trace: Trace, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [trace(word, f"a {word}", "--seed", "7") for word in ("fox", "boat")]
    capsys.readouterr()
    assert run(["trace", "diff", *map(str, paths)]) == 8
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith("they part at step 1 of 2 in the estimate that follows the words, by ")
    assert told[1].startswith("first seen in the attention of down.1.")
    assert told[2] == "because of prompt: 'a fox' against 'a boat'"

    assert run(["trace", "diff", *map(str, paths), "--json"]) == 8
    found = json.loads(capsys.readouterr().out)
    assert (found["same"], found["parting"]["quantity"], found["cause"]["name"]) == (False, "conditional", "prompt")
    assert len(found["rows"]) == 2 and found["parting"]["region"]["words"]


def test_steps_and_sizes_may_differ(trace: Trace, capsys: pytest.CaptureFixture[str]) -> None:
    one, three = trace("a", "a fox", "--seed", "7"), trace("b", "a fox", "--seed", "7", "--size", "24")
    capsys.readouterr()
    assert run(["trace", "diff", str(one), str(three)]) == 8
    assert "because of width: 16 against 24" in (told := capsys.readouterr().out) and "different sizes" in told


@pytest.mark.parametrize(
    ("code", "words", "message"),
    [
        (2, ["--steps", "2"], "nothing to draw was named"),
        (2, ["a fox", "--out", "none/run.trace"], "there is no folder none"),
        (3, ["diff", "none.trace", "none.trace"], "none.trace is not there; a file that 'undiffuse trace' wrote is needed"),
    ],
)
def test_mistakes_are_told_in_one_line(code: int, words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["trace", *words]) == code
    assert message in capsys.readouterr().err


def test_another_file_is_never_overwritten(tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "fox.png").write_bytes(b"a picture")
    assert run(["trace", "a fox", "--model", str(tiny_folder), "--out", str(tmp_path / "fox.png")]) == 2
    assert "only traces are overwritten" in capsys.readouterr().err
    assert (tmp_path / "fox.png").read_bytes() == b"a picture"
