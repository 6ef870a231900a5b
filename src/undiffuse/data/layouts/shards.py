"""Data sets in tar shards: the built form with its caption list, and plain WebDataset tars."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from undiffuse.data.decoding import SUFFIXES
from undiffuse.data.layouts.found import Found, json_lines, json_object, row_from, text_of
from undiffuse.data.places import Place, tar_members
from undiffuse.data.records import Problem


def read_built(folder: Path) -> Found:
    """`captions.jsonl` beside `shards/*.tar`: one line a picture, naming its shard and its file in it."""
    found = Found()
    shards: dict[str, dict[str, Place]] = {}
    for path in sorted((folder / "shards").glob("*.tar")):
        shards[path.name], problems = tar_members(path)
        found.problems += problems
    for raw in json_lines(folder / "captions.jsonl", found.problems):
        shard, file = str(raw.pop("shard", "")), str(raw.pop("file", ""))
        place = shards.get(shard, {}).get(file)
        if place is None:
            found.problems.append(Problem(f"{shard}:{file}", "is listed in captions.jsonl and missing"))
        else:
            found.add(row_from(str(PurePosixPath(file).with_suffix("")), raw), place)
    return found


def read_tars(paths: list[Path]) -> Found:
    """WebDataset tars: files of one sample share their name up to the first dot (.png, .json, .txt, .cls)."""
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
    found.add(row_from(key, raw), picture)
