"""Data sets in tar shards: the built form with its caption list, and plain WebDataset tars."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from undiffuse.data.decoding import SUFFIXES
from undiffuse.data.layouts.found import MAP_SUFFIXES, Found, json_lines, json_object, map_file, row_from, text_of
from undiffuse.data.places import Place, tar_members
from undiffuse.data.records import Problem


def read_built(folder: Path) -> Found:
    """`captions.jsonl` beside `shards/*.tar` or `*.tar`: one line a picture, naming its shard and its file in it.

    `map` or `mask` names the semantic map in the same shard.
    """
    found = Found()
    shards: dict[str, dict[str, Place]] = {}
    for path in sorted([*folder.glob("*.tar"), *(folder / "shards").glob("*.tar")]):
        shards[path.name], problems = tar_members(path)
        found.problems += problems
    for raw in json_lines(folder / "captions.jsonl", found.problems):
        shard, file = str(raw.pop("shard", "")), str(raw.pop("file", ""))
        members = shards.get(shard, {})
        place, named = members.get(file), map_file(raw)
        if place is None:
            found.problems.append(Problem(f"{shard}:{file}", "is listed in captions.jsonl and missing"))
        else:
            found.add(row_from(str(PurePosixPath(file).with_suffix("")), raw), place, members.get(named))
            if named and named not in members:
                found.problems.append(Problem(f"{shard}:{named}", "is a map that captions.jsonl lists, and missing"))
    return found


def names_shards(table: Path) -> bool:
    """Whether the first line of this list names a shard: its pictures then lie in tars."""
    with table.open("rb") as file:
        return "shard" in (json_object(file.readline().decode("utf-8-sig", errors="replace")) or {})


def read_tars(paths: list[Path]) -> Found:
    """WebDataset tars: files of one sample share their name up to the first dot (.png, .json, .txt, .cls, .map.png)."""
    found = Found()
    for path in paths:
        members, problems = tar_members(path)
        found.problems += problems
        samples: dict[str, dict[str, Place]] = {}
        for name, place in members.items():
            head, dot, suffix = PurePosixPath(name).name.partition(".")
            samples.setdefault(str(PurePosixPath(name).parent / head), {})[dot + suffix.lower()] = place
        for name, parts in samples.items():
            _add_sample(found, f"{path.stem}/{name}", parts)
    return found


def _add_sample(found: Found, key: str, parts: dict[str, Place]) -> None:
    picture = next((place for suffix, place in parts.items() if suffix in SUFFIXES), None)
    if picture is None:
        found.problems.append(Problem(key, f"has no picture, only {', '.join(parts)}"))
        return
    raw = {}
    if ".json" in parts:
        raw = json_object(text_of(parts[".json"].read(), parts[".json"].name, found.problems))
        if raw is None:
            found.problems.append(Problem(parts[".json"].name, "is not a JSON object"))
            raw = {}
    for suffix, name in ((".txt", "caption"), (".cls", "label")):
        if suffix in parts:
            raw[name] = text_of(parts[suffix].read(), parts[suffix].name, found.problems).strip()
    index_map = next((parts[suffix] for suffix in MAP_SUFFIXES if suffix in parts), None)
    found.add(row_from(key, raw), picture, index_map)
