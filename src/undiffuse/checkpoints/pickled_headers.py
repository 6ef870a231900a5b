"""What is in a pickle of tensors, told without torch and without running anything that the pickle asks for.

Whatever a pickle names becomes a stand-in that only remembers its name: nothing is imported, so nothing can be called.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from undiffuse.core.errors import CheckpointError, UnknownFormat, explain

ALLOWED = ("torch", "collections", "numpy", "__builtin__", "builtins", "_codecs")
"""Modules that pickles of tensors name. Others are told of; torch's reader for weights alone decides what it reads."""

HARMLESS_BUILTINS = ("set", "dict", "list", "int", "float", "bytes", "bytearray", "complex", "tuple", "OrderedDict", "slice")
TYPES = {
    "FloatStorage": "F32",
    "HalfStorage": "F16",
    "BFloat16Storage": "BF16",
    "DoubleStorage": "F64",
    "LongStorage": "I64",
    "IntStorage": "I32",
    "ShortStorage": "I16",
    "CharStorage": "I8",
    "ByteStorage": "U8",
    "BoolStorage": "BOOL",
}
LEGACY_PREAMBLE = 3  # pickles before the one that counts, in files of torch before 1.6
DEEPEST = 50


@dataclass
class Pickled:
    """The tensors of a pickle as a safetensors header tells of them, and the names outside of torch that it asks for."""

    tensors: dict[str, dict[str, Any]] = field(default_factory=dict)
    strange: list[str] = field(default_factory=list)


def read_pickle_header(path: Path) -> Pickled:
    """Names, types and shapes of the tensors in a pickle, of its `state_dict` where it has one.

    Raises:
        CheckpointError: when the file is missing or damaged.
        UnknownFormat: when it holds no tensors by name.
    """
    if not path.is_file():
        raise CheckpointError(explain(f"{path} is not there", "a model file is needed", "check the path"))
    try:
        content, asked = _contents(path)
    except (pickle.UnpicklingError, zipfile.BadZipFile, OSError, EOFError, ValueError, KeyError, IndexError) as error:
        given = f"{path} cannot be read ({(str(error).splitlines() or [type(error).__name__])[0]})"
        raise CheckpointError(explain(given, "a whole file is needed", "fetch it again")) from None
    except (AttributeError, TypeError, RecursionError):  # it does with stand-ins what only the things themselves can
        raise CheckpointError(explain(f"{path} is no pickle of tensors", "tensors and plain containers are read")) from None
    inner = content.get("state_dict", content) if isinstance(content, Mapping) else None
    tensors = {str(name): value.told() for name, value in _items(inner) if isinstance(value, _Shaped)}
    if not tensors:
        raise UnknownFormat(explain(f"{path} holds no tensors by name", "a checkpoint with a state_dict is read"))
    return Pickled(tensors, sorted(name for name in asked if not _usual(name)))


def _contents(path: Path) -> tuple[object, set[str]]:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            name = next((name for name in archive.namelist() if name.endswith("data.pkl")), None)
            if name is None:
                raise ValueError("a zip file without data.pkl")
            with archive.open(name) as file:
                reader = _Reader(file)  # type: ignore[arg-type]
                return reader.load(), reader.asked
    with path.open("rb") as file:
        for _ in range(LEGACY_PREAMBLE):
            _Reader(file).load()
        reader = _Reader(file)
        return reader.load(), reader.asked


def _items(inner: object) -> list[tuple[object, object]]:
    return list(inner.items()) if isinstance(inner, Mapping) else []


def _usual(name: str) -> bool:
    module, _, attribute = name.rpartition(".")
    if module in ("builtins", "__builtin__"):
        return attribute in HARMLESS_BUILTINS
    return module.split(".")[0] in ALLOWED


class _StandIn(dict):  # type: ignore[type-arg]
    """Whatever a pickle names: it can be called, filled and given state, and does nothing."""

    name = ""

    def __init__(self, *args: object, **options: object) -> None:
        super().__init__()

    def __call__(self, *args: object) -> _StandIn:
        return _StandIn()

    def __setstate__(self, state: object) -> None:
        pass

    def append(self, value: object) -> None:
        """As lists."""

    def extend(self, values: object) -> None:
        """As lists."""

    def add(self, value: object) -> None:
        """As sets."""

    def __hash__(self) -> int:  # type: ignore[override]
        return id(self)


class _Shaped(_StandIn):
    """A tensor: type and shape."""

    def __init__(self, kind: str, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.kind = kind
        self.shape = shape

    def told(self) -> dict[str, Any]:
        """As a safetensors header tells of it."""
        return {"dtype": self.kind, "shape": list(self.shape)}


class _Rebuild:
    """The functions by which torch rebuilds tensors and parameters from a storage and a shape."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, *args: Any) -> object:
        if self.name == "_rebuild_parameter" or not args or not isinstance(args[0], str):
            return args[0] if args else _StandIn()
        return _Shaped(args[0], tuple(args[2]))


class _Reader(pickle.Unpickler):
    """An unpickler that knows nobody by name."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file, encoding="utf-8")
        self.asked: set[str] = set()

    def find_class(self, module: str, name: str) -> Any:
        """A stand-in."""
        self.asked.add(f"{module}.{name}")
        if name.startswith("_rebuild_"):
            return _Rebuild(name)
        if name == "OrderedDict":
            return dict
        return type(name, (_StandIn,), {"name": name})

    def persistent_load(self, pid: Any) -> str:
        """The type of a storage."""
        return TYPES.get(getattr(pid[1], "name", ""), str(getattr(pid[1], "name", "?")))
