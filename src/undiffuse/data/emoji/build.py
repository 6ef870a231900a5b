"""`build_emoji`: fetch the art sets, draw every picture, write shards, captions and licences."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from undiffuse.core.errors import UsageError, explain
from undiffuse.data.atomic import write_text
from undiffuse.data.builds import claim, counted
from undiffuse.data.emoji.art_sets import ArtSet, art_set
from undiffuse.data.emoji.catalogue import Entry, catalogue
from undiffuse.data.emoji.concepts import read_concepts
from undiffuse.data.emoji.dictionary import Dictionary
from undiffuse.data.emoji.fetch import Tarball, fetch_package
from undiffuse.data.emoji.licences import licences_page
from undiffuse.data.emoji.raster import Drawn, require_resvg
from undiffuse.data.emoji.sources import KEYWORDS, LABELS, STYLES
from undiffuse.data.emoji.workers import drawers
from undiffuse.data.records import Progress
from undiffuse.data.shard_files import Sample, read_rows, write_shard

NAMED = 10  # of the pictures that were left out, in the text


@dataclass(frozen=True)
class BuildReport:
    """What lies in the folder after a build: pictures by style phrase, split and licence.

    `skipped` names the pictures that this run left out, with the reason.
    """

    folder: Path
    styles: dict[str, int]
    splits: dict[str, int]
    licences: dict[str, int]
    skipped: dict[str, str]

    @property
    def count(self) -> int:
        """Pictures in all."""
        return sum(self.styles.values())

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain data, for JSON."""
        return {**asdict(self), "folder": str(self.folder), "count": self.count}

    def lines(self) -> list[str]:
        """The report as text, a line at a time."""
        more = len(self.skipped) - NAMED
        lines = [
            f"{self.folder}: {self.count} pictures in {len(self.styles)} styles",
            counted("style", self.styles),
            counted("split", self.splits),
            counted("licence", self.licences),
            *(f"left out: {name}: {reason}" for name, reason in list(self.skipped.items())[:NAMED]),
            f"left out: and {more} more" if more > 0 else "",
            f"licences and attribution: {self.folder / 'LICENSES.md'}",
        ]
        return [line for line in lines if line]


def build_emoji(
    out: str | Path,
    size: int = 128,
    skins: bool = False,
    progress: Progress | None = None,
    processes: int | None = None,
) -> BuildReport:
    """Build the emoji data set in `out`; a build that was stopped goes on where it was.

    Tarballs are kept in `out/.downloads`; any that lie there already are used. Shards, one a style, appear
    only when whole.

    Args:
        out: the folder of the data set.
        size: side of the square pictures, in pixels.
        skins: also draw the skin-tone variants.
        progress: told after every few pictures.
        processes: how many draw at once; all processors by default.

    Raises:
        DependencyError: npm or resvg-py is missing.
        DataError: a package could not be fetched or read, or another build lies in `out`.
        UsageError: the size is out of range.
    """
    if not 16 <= size <= 1024:
        raise UsageError(explain(f"size = {size}", "16 to 1024 pixels are possible", "128 is what the default model uses"))
    require_resvg()
    out = Path(out)
    settings = {"name": "emoji", "size": size, "skins": skins, "packages": [str(style.package) for style in STYLES]}
    claim(out, settings)
    tell = progress or (lambda done, total, what: None)
    sets, entries = _plan(out / ".downloads", skins, tell)
    total = sum(map(len, entries.values()))
    rows: list[dict[str, Any]] = []
    skipped: dict[str, str] = {}
    with drawers(processes) as draw_all:
        for name, planned in entries.items():
            shard = out / "shards" / f"{name}.tar"
            if not shard.exists():
                drawn = draw_all([sets[name].drawing(entry.icon, entry.file, size) for entry in planned])
                told = _announce(drawn, len(rows), total, name, tell)
                write_shard(shard, _collect(planned, told, skipped))
            rows += read_rows(shard)
    report = _count(out, rows, skipped)
    _finish(settings, report, rows)
    tell(total, total, "done")
    return report


def _plan(downloads: Path, skins: bool, tell: Progress) -> tuple[dict[str, ArtSet], dict[str, list[Entry]]]:
    """Fetch everything; the art sets, and the entries to draw, by style id."""
    packages = {"labels": LABELS, "keywords": KEYWORDS} | {style.id: style.package for style in STYLES}
    tarballs: dict[str, Tarball] = {}
    for number, (name, package) in enumerate(packages.items()):
        tell(number, len(packages), f"fetching {package}")
        tarballs[name] = Tarball(fetch_package(package, downloads))
    sets = {style.id: art_set(style, tarballs[style.id]) for style in STYLES}
    dictionary = Dictionary(tarballs["labels"], [art.table() for art in sets.values()])
    icons = {name: art.icons(dictionary) for name, art in sets.items()}
    return sets, catalogue(read_concepts(tarballs["labels"], tarballs["keywords"], skins), icons)


def _announce(drawn: Iterator[Drawn], before: int, total: int, style: str, tell: Progress) -> Iterator[Drawn]:
    for number, picture in enumerate(drawn):
        if number % 16 == 0:
            tell(before + number, total, f"drawing {style}")
        yield picture


def _collect(entries: list[Entry], drawn: Iterator[Drawn], skipped: dict[str, str]) -> Iterator[Sample]:
    """Rows with their pictures; what could not be drawn, or was drawn before in this style, goes into `skipped`.

    Some sets draw a person and a woman alike. Kept twice, a held-out picture could also be a training one.
    """
    seen: dict[bytes, str] = {}
    for entry, picture in zip(entries, drawn, strict=True):
        twin = seen.setdefault(picture.png, entry.file)
        if picture.problem:
            skipped[entry.file] = picture.problem
        elif twin != entry.file:
            skipped[entry.file] = f"the same picture as {twin}"
        else:
            yield entry.row(), {entry.file: picture.png}


def _count(out: Path, rows: list[dict[str, Any]], skipped: dict[str, str]) -> BuildReport:
    styles, splits, licences = (dict(Counter(row[key] for row in rows)) for key in ("style", "split", "licence"))
    return BuildReport(out, styles, splits, licences, skipped)


def _finish(settings: dict[str, Any], report: BuildReport, rows: list[dict[str, Any]]) -> None:
    """Write the three files that describe the set; dataset.json last, for it says that the set is whole."""
    out = report.folder
    counts = {"count": report.count, "styles": report.styles, "splits": report.splits, "licences": report.licences}
    write_text(out / "LICENSES.md", licences_page(settings["size"], report.styles))
    write_text(out / "captions.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    write_text(out / "dataset.json", json.dumps({**settings, "complete": True, **counts}, indent=2))
