"""Lines for people or one document for machines, and bars only on a terminal."""

from __future__ import annotations

import io
import json
import sys

import pytest

from undiffuse.cli.console import Console


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_people_get_lines_and_no_document(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console()

    console.say("a line")
    console.remark("a remark")
    console.result({"a": 1})

    assert capsys.readouterr() == ("a line\n", "a remark\n")


def test_machines_get_one_document_and_no_lines(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(json=True)

    console.say("a line")
    console.remark("a remark")
    console.result({"a": 1})

    told = capsys.readouterr()
    assert json.loads(told.out) == {"a": 1}
    assert told.err == ""


def test_there_is_no_bar_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with Console().progress("drawing") as bar:
        bar(1, 2, "half")

    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("machine", "shown"), [(False, True), (True, False)])
def test_a_terminal_gets_a_bar_unless_a_machine_reads(machine: bool, shown: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)

    with Console(json=machine).progress("drawing") as bar:
        bar(1, 2, "half")

    assert ("drawing" in screen.getvalue()) == shown
