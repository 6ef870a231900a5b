"""The command line as a whole: help, errors in one line, exit codes."""

from __future__ import annotations

import sys
from importlib import import_module

import pytest

from undiffuse.cli import main as cli
from undiffuse.cli.main import COMMANDS, build_app, run
from undiffuse.core import errors
from undiffuse.core.version import VERSION


def raising(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `undiffuse doctor` end in this error."""

    def command() -> None:
        raise error

    monkeypatch.setattr(import_module("undiffuse.cli.doctor"), "command", command)


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0

    told = capsys.readouterr().out
    for name, entry in COMMANDS.items():
        assert f"  {name} " in told and entry.help in told


def test_no_words_at_all_show_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 0
    assert "Commands:" in capsys.readouterr().out


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"undiffuse {VERSION}\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_its_own_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([name, "--help"]) == 0

    told = capsys.readouterr().out
    assert told.startswith(f"Usage: undiffuse {name}")
    assert COMMANDS[name].help.rstrip(".") in " ".join(told.split())


@pytest.mark.parametrize("name", [name for name, entry in COMMANDS.items() if entry.has_children])
def test_every_sub_command_has_help_and_json(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    app = import_module(COMMANDS[name].module).app
    children = [command.callback.__name__ for command in app.registered_commands]
    assert children

    for child in children:
        assert run([name, child, "--help"]) == 0
        assert "--json" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["genrate"], "No such command 'genrate'. Did you mean 'generate'?"),
        (["--nonsense"], "No such option: --nonsense"),
        (["generate", "fox", "--stpes", "3"], "No such option: --stpes"),
        (["generate", "fox", "--steps", "many"], "Invalid value for '--steps'"),
    ],
)
def test_wrong_words_are_one_line_and_exit_2(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(words) == 2

    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("error: ") and message in told.err
    assert told.err.count("\n") == 1


@pytest.mark.parametrize(
    "error",
    [errors.UsageError, errors.DataError, errors.CheckpointError, errors.DeviceError, errors.DependencyError, errors.Diverged,
     errors.Cancelled],
)  # fmt: skip
def test_the_exit_code_tells_the_class_of_the_error(
    error: type[errors.UndiffuseError], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raising(error("given; allowed; remedy."), monkeypatch)

    assert run(["doctor"]) == error.exit_code
    assert capsys.readouterr().err == "error: given; allowed; remedy.\n"


def test_an_interrupt_is_quiet(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    raising(KeyboardInterrupt(), monkeypatch)

    assert run(["doctor"]) == 130
    assert capsys.readouterr().err == ""


def test_a_file_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    raising(FileNotFoundError(2, "No such file or directory", "words.txt"), monkeypatch)

    assert run(["doctor"]) == 1
    assert capsys.readouterr().err == "error: words.txt: No such file or directory.\n"


def test_the_unexpected_is_one_line_and_says_how_to_see_more(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raising(ZeroDivisionError("division by zero"), monkeypatch)

    assert run(["doctor"]) == 1
    told = capsys.readouterr().err
    assert told == "error: unexpected ZeroDivisionError: division by zero (UNDIFFUSE_TRACEBACK=1 shows where)\n"

    monkeypatch.setenv("UNDIFFUSE_TRACEBACK", "1")
    with pytest.raises(ZeroDivisionError):
        run(["doctor"])


def test_the_entry_point_exits_with_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["undiffuse", "genrate"])

    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 2


def test_only_the_command_that_is_asked_for_is_in_full() -> None:
    callbacks = {info.name: info.callback for info in build_app("doctor").registered_commands}

    assert callbacks["doctor"] is import_module("undiffuse.cli.doctor").command
    assert callbacks["generate"] is callbacks["train"]
