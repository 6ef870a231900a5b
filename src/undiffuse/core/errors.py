"""Every exception the package raises, drawn as a tree.

    UndiffuseError
    ├── UsageError          an option or argument is wrong                       exit 2
    │   └── SpecError       a recipe, spec or request holds a wrong value        exit 2
    ├── DataError           a data set or a picture cannot be used               exit 3
    ├── CheckpointError     a model file or folder cannot be used                exit 4
    │   ├── UnknownFormat   not a format that we read
    │   ├── MissingKeys     tensors are missing, or there are some too many
    │   └── ShapeMismatch   a tensor has another shape than the spec says
    ├── DeviceError         the machine lacks what was asked for                 exit 5
    ├── DependencyError     an optional package or program is not installed      exit 6
    ├── Diverged            training produced NaN or infinity                    exit 7
    ├── Busy                a server has as much to do as it takes               exit 9
    └── Cancelled           somebody asked to stop                               exit 130
        └── TimedOut        it took longer than it may

A message says what was given, what is allowed, and the remedy, in that order.
`explain(given, allowed, remedy)` joins the three.
"""

from __future__ import annotations


class UndiffuseError(Exception):
    """Base of all errors that are the user's to mend; `exit_code` is what the command returns."""

    exit_code = 1


class UsageError(UndiffuseError):
    """An option or argument is wrong."""

    exit_code = 2


class SpecError(UsageError):
    """A recipe, a model spec or a request holds a wrong value."""


class DataError(UndiffuseError):
    """A data set or a single picture cannot be used."""

    exit_code = 3


class CheckpointError(UndiffuseError):
    """A model file or folder cannot be used."""

    exit_code = 4


class UnknownFormat(CheckpointError):
    """The file is in none of the formats that we read."""


class MissingKeys(CheckpointError):
    """Tensors are missing, or there are some that the model has no place for."""


class ShapeMismatch(CheckpointError):
    """A tensor has another shape than the spec says."""


class DeviceError(UndiffuseError):
    """The machine lacks the device or precision that was asked for."""

    exit_code = 5


class DependencyError(UndiffuseError):
    """An optional package or an outside program is not installed."""

    exit_code = 6


class Diverged(UndiffuseError):
    """Training produced NaN or infinity."""

    exit_code = 7


class Busy(UndiffuseError):
    """A server has as much to do as it takes; later it will take more."""

    exit_code = 9


class Cancelled(UndiffuseError):
    """Somebody asked to stop."""

    exit_code = 130


class TimedOut(Cancelled):
    """It took longer than it may."""


def explain(given: str, allowed: str, remedy: str = "") -> str:
    """Join the three parts of a message: what was given, what is allowed, what to do."""
    parts = [given.rstrip(".;"), allowed.rstrip(".;")]
    if remedy:
        parts.append(remedy.rstrip(".;"))
    return "; ".join(part for part in parts if part) + "."
