"""`undiffuse`: the command. Only the sub-command that is asked for is imported, so that `--help` answers at once."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated, NamedTuple

import typer

from undiffuse.core.errors import UndiffuseError
from undiffuse.core.version import VERSION

INTERRUPTED = 130
USAGE = 2
UNEXPECTED = 1


class Entry(NamedTuple):
    """A sub-command: the module that holds it as `command`, or as `app` when it has sub-commands of its own.

    `usual` is the one of these that is meant where none is named.
    """

    module: str
    help: str
    has_children: bool = False
    usual: str | None = None


COMMANDS = {
    "generate": Entry("undiffuse.cli.generate", "Turn words into pictures."),
    "inpaint": Entry("undiffuse.cli.inpaint", "Make the masked part of a picture anew."),
    "paint": Entry("undiffuse.cli.paint", "Turn a painted map into a picture."),
    "upscale": Entry("undiffuse.cli.upscale", "Enlarge a small picture."),
    "train": Entry("undiffuse.cli.train", "Train a model by a recipe, or go on with a run."),
    "data": Entry("undiffuse.cli.data", "Build and check data sets.", has_children=True),
    "evaluate": Entry("undiffuse.cli.evaluate", "Measure a model.", has_children=True),
    "serve": Entry("undiffuse.cli.serve", "Serve pictures over HTTP."),
    "studio": Entry("undiffuse.cli.studio", "Draw in the browser."),
    "explain": Entry("undiffuse.cli.explain", "Show on one page how a picture came to be."),
    "trace": Entry("undiffuse.cli.trace", "Record how a picture is drawn, and compare two records.", True, usual="record"),
    "verify": Entry("undiffuse.cli.verify", "Draw a picture again and tell whether it is the same."),
    "convert": Entry("undiffuse.cli.convert", "Write a model in the layout of another program, or in ours."),
    "inspect": Entry("undiffuse.cli.inspect", "Tell what a model file or folder holds."),
    "doctor": Entry("undiffuse.cli.doctor", "Tell what this machine can do."),
}


def build_app(asked: str | None) -> typer.Typer:
    """The command line with the sub-command `asked` in full, and of the others the name and help."""
    app = typer.Typer(rich_markup_mode=None, add_completion=False, invoke_without_command=True)
    app.callback()(_start)
    for name, entry in COMMANDS.items():
        if name != asked:
            app.command(name, help=entry.help)(_nothing)
        elif entry.has_children:
            app.add_typer(import_module(entry.module).app, name=name, help=entry.help)
        else:
            app.command(name)(import_module(entry.module).command)
    return app


def main() -> None:
    """Entry point of the `undiffuse` command."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; errors are one line on the error stream."""
    asked = next((word for word in arguments if not word.startswith("-")), None)
    try:
        return build_app(asked)(_in_full(arguments, asked), prog_name="undiffuse", standalone_mode=False) or 0
    except KeyboardInterrupt:
        return INTERRUPTED
    except typer.TyperException as error:
        return _report(error.format_message(), USAGE)
    except UndiffuseError as error:
        return _report(str(error), error.exit_code)
    except OSError as error:
        if error.filename is None or _wants_traceback():
            return _unexpected(error)
        return _report(f"{error.filename}: {error.strerror}.", UNEXPECTED)
    except Exception as error:
        return _unexpected(error)


def _in_full(arguments: Sequence[str], asked: str | None) -> list[str]:
    """The arguments with the usual sub-command named where the user left it out: `trace "a fox"` is `trace record "a fox"`."""
    entry = COMMANDS.get(asked or "")
    if entry is None or entry.usual is None:
        return list(arguments)
    after = list(arguments).index(asked) + 1  # type: ignore[arg-type]
    rest = list(arguments[after:])
    children = {command.callback.__name__ for command in import_module(entry.module).app.registered_commands}
    named = not rest or rest[0] in {*children, "--help"}
    return [*arguments[:after], *([] if named else [entry.usual]), *rest]


def _start(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
) -> None:
    """Train, run, edit, serve and explain latent diffusion models.

    'undiffuse COMMAND --help' tells the options of a command.
    """
    if version:
        typer.echo(f"undiffuse {VERSION}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


def _nothing() -> None:
    """Stands in help for a sub-command that was not asked for."""


def _report(message: str, code: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return code


def _unexpected(error: Exception) -> int:
    if _wants_traceback():
        raise error
    first = str(error).splitlines()[0] if str(error) else "no message"
    return _report(f"unexpected {type(error).__name__}: {first} (UNDIFFUSE_TRACEBACK=1 shows where)", UNEXPECTED)


def _wants_traceback() -> bool:
    return os.environ.get("UNDIFFUSE_TRACEBACK", "0") not in ("", "0")
