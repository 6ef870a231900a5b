"""`--set a.b=c`: one value of a recipe, said on the command line."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from difflib import SequenceMatcher, get_close_matches
from typing import Any, get_args, get_origin

from undiffuse.core.errors import UsageError, explain
from undiffuse.core.spec import Spec

SHOWN = 3
KIND = "kind"
LISTS = ("conditioners",)
EXAMPLE = "for instance --set optimizer.rate=1e-4"


def known_keys(spec: type[Spec], prefix: str = "") -> dict[str, Any]:
    """Every key that a spec of this kind may hold, dotted, with the type of its value; of alternatives, those of all.

    The tables of a list go by their kind: `conditioners.text.drop`.
    """
    keys: dict[str, Any] = {}
    for name, field in spec.model_fields.items():
        keys[prefix + name] = field.annotation
        for inner in _specs(field.annotation):
            if get_origin(field.annotation) is tuple and KIND in inner.model_fields:
                keys[f"{prefix}{name}.{inner.model_fields[KIND].default}"] = inner
                keys |= known_keys(inner, f"{prefix}{name}.{inner.model_fields[KIND].default}.")
            else:
                keys |= known_keys(inner, f"{prefix}{name}.")
    return keys


def _specs(annotation: Any) -> list[type[Spec]]:
    if isinstance(annotation, type) and issubclass(annotation, Spec):
        return [annotation]
    return [found for part in get_args(annotation) for found in _specs(part)]


def apply(raw: dict[str, Any], override: str, keys: Mapping[str, Any]) -> None:
    """Put the value of `a.b=c` into nested tables; nothing after the = takes the key out, back to its default.

    A value is read as TOML where that is possible, else as text; keys that hold text take it as it stands, so that
    a folder may be called 2024.

    Raises:
        UsageError: when it is not of the form a.b=c, or there is no such key; the nearest ones are named.
    """
    key, equals, text = (part.strip() for part in override.partition("="))
    names = [name.strip() for name in key.split(".")]
    if not equals or not all(names):
        raise UsageError(explain(f"--set {override!r}", "the form is a.b=c", EXAMPLE))
    key = ".".join(names)
    if not is_known(key, keys):
        near = nearest(key, keys)
        tables = ", ".join(name for name in keys if "." not in name)
        remedy = f"the nearest: {', '.join(near)}" if near else f"a recipe holds {tables}"
        raise UsageError(explain(f"--set {override!r}", f"there is no key {key}", remedy))
    node = raw
    for depth, name in enumerate(names[:-1], start=1):
        if node.get(name) is None or (depth == 1 and isinstance(node[name], list)):
            node[name] = _by_kind(node.get(name) or [], name, override)
        node = node[name]
        if not isinstance(node, dict):
            raise UsageError(explain(f"--set {override!r}", f"{'.'.join(names[:depth])} is a value, not a table"))
    if text:
        node[names[-1]] = _value(text, keys.get(key))
    else:
        node.pop(names[-1], None)
    if names[0] in LISTS and isinstance(raw.get(names[0]), dict):
        raw[names[0]] = _listed(raw[names[0]], override)


def _by_kind(tables: list[Any], name: str, override: str) -> dict[str, Any]:
    """The tables of a list by their kind.

    Raises:
        UsageError: when two are of one kind: nobody could tell which is meant.
    """
    kinds = [str(table.get(KIND)) for table in tables if isinstance(table, dict)]
    twice = next((kind for kind in kinds if kinds.count(kind) > 1), None)
    if twice is not None:
        given = f"--set {override!r} with {kinds.count(twice)} tables [[{name}]] of kind {twice!r} in the recipe"
        raise UsageError(explain(given, "one of a kind is allowed", "take the others out of the recipe"))
    return {kind: table for kind, table in zip(kinds, filter(lambda table: isinstance(table, dict), tables), strict=True)}


def _listed(tables: dict[str, Any], override: str) -> list[dict[str, Any]]:
    """Tables by kind as a list again."""
    wrong = next((kind for kind, table in tables.items() if not isinstance(table, dict)), None)
    if wrong is not None:
        remedy = f"for instance --set {LISTS[0]}.{wrong}.drop=0.1"
        raise UsageError(explain(f"--set {override!r}", f"{LISTS[0]}.{wrong} is a table", remedy))
    return [{KIND: kind, **table} for kind, table in tables.items()]


def nearest(key: str, keys: Iterable[str]) -> list[str]:
    """The known keys that this one may be a slip of: those whose last word is alike, the most similar first."""
    keys = list(keys)
    last = key.rpartition(".")[2]
    alike = get_close_matches(last, {known.rpartition(".")[2] for known in keys}, n=SHOWN)
    found = [known for known in keys if known.rpartition(".")[2] in alike]
    return sorted(found, key=lambda known: -SequenceMatcher(None, key, known).ratio())[:SHOWN]


def is_known(key: str, keys: Mapping[str, Any]) -> bool:
    """Whether a recipe may hold this key; tables of weights take any name."""
    parent = key.rpartition(".")[0]
    return key in keys or get_origin(keys.get(parent)) in (dict, Mapping)


def _value(text: str, kind: Any) -> Any:
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
    return text if kind in (str, str | None) and not isinstance(value, str) else value
