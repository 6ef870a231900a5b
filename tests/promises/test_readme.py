"""The Python and the commands of the README work as they stand there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from undiffuse.cli.main import COMMANDS, run

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
EMBEDDED = ROOT / "src" / "undiffuse" / "weights" / "default"


def blocks(language: str) -> list[str]:
    """The fenced blocks of this language."""
    return re.findall(rf"^```{language}\n(.*?)^```", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def commands() -> list[list[str]]:
    """Every `undiffuse ...` line of the console blocks, as words; a line that goes on below is one."""
    lines = [line.removeprefix("$ ") for block in blocks("console") for line in block.replace("\\\n", " ").splitlines()]
    return [shlex.split(line, comments=True) for line in lines if line.startswith("undiffuse ")]


@pytest.mark.skipif(not EMBEDDED.is_dir(), reason="the embedded model is not there")
@pytest.mark.parametrize("code", blocks("python"))
def test_every_python_block_runs(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    exec(compile(code, "README.md", "exec"), {"__name__": "readme"})

    assert list(tmp_path.iterdir()) or "save" not in code


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_command_and_every_option_exists(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    path = words[1:3] if COMMANDS[words[1]].has_children else words[1:2]

    assert run([*path, "--help"]) == 0
    told = capsys.readouterr().out
    for word in words:
        if word.startswith("--"):
            assert word.split("=")[0] in told
