"""`build_scenes`: compose scenes from the cut-outs of the emoji set; write shards, captions and licences."""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from undiffuse.core.errors import DataError, UsageError, explain
from undiffuse.core.random import numpy_stream, stream_seed
from undiffuse.data.atomic import write_text
from undiffuse.data.builds import claim, counted
from undiffuse.data.dataset import open_dataset
from undiffuse.data.records import Progress
from undiffuse.data.scenes.classes import MAP_CLASSES
from undiffuse.data.scenes.compose import compose
from undiffuse.data.scenes.plan import plan_scene
from undiffuse.data.scenes.things import Things
from undiffuse.data.scenes.words import arrangement, caption, relations
from undiffuse.data.shard_files import Sample, read_rows, write_shard

PER_SHARD = 500
HELD_OUT_SHARE = 0.05
TOLD_EVERY = 16
LICENCE_HEAD = """# Licences and attribution

The scenes in this folder are composed from the pictures of the emoji data set, made smaller, on grounds and skies that
are painted by the program. Whoever passes this folder on, or publishes pictures from it, passes on this page. What
follows is the page of that data set.

"""


@dataclass(frozen=True)
class SceneReport:
    """What lies in the folder after a build: scenes by split, style phrase, ground and sky, and things by class."""

    folder: Path
    splits: dict[str, int]
    styles: dict[str, int]
    grounds: dict[str, int]
    skies: dict[str, int]
    things: dict[str, int]

    @property
    def count(self) -> int:
        """Scenes in all."""
        return sum(self.splits.values())

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain data, for JSON."""
        return {**asdict(self), "folder": str(self.folder), "count": self.count}

    def lines(self) -> list[str]:
        """The report as text, a line at a time."""
        return [
            f"{self.folder}: {self.count} scenes with maps of {len(MAP_CLASSES)} classes",
            counted("split", self.splits),
            counted("style", self.styles),
            counted("ground", self.grounds),
            counted("sky", self.skies),
            counted("number of things", self.things),
            f"licences and attribution: {self.folder / 'LICENSES.md'}",
        ]


def build_scenes(
    out: str | Path,
    source: str | Path = "data/emoji",
    count: int = 8000,
    size: int = 128,
    seed: int = 0,
    progress: Progress | None = None,
) -> SceneReport:
    """Build the scenes data set in `out`; a build that was stopped goes on where it was.

    Scene i is drawn from the stream ("scenes", seed, i), whatever the count. (Concept, style) pairs that the emoji
    set holds out appear in validation scenes only.

    Args:
        out: the folder of the data set.
        source: the folder of the emoji data set.
        count: how many scenes.
        size: side of the square pictures, in pixels.
        seed: another gives other scenes.
        progress: told after every few scenes.

    Raises:
        DataError: the emoji set is missing or holds no cut-outs, or another build lies in `out`.
        UsageError: the size or the count is out of range.
    """
    if not 32 <= size <= 1024:
        raise UsageError(explain(f"size = {size}", "32 to 1024 pixels are possible", "128 is what the default model uses"))
    if count < 1:
        raise UsageError(explain(f"count = {count}", "at least 1 is needed"))
    out, source = Path(out), Path(source)
    if not (source / "captions.jsonl").is_file():
        given = f"{source} holds no emoji data set, which scenes are made of"
        remedy = f"undiffuse data build emoji --out {source}, or name its folder with --from"
        raise DataError(explain(given, "it is needed whole", remedy))
    emoji = open_dataset(source, "all")
    digest = hashlib.sha256((source / "captions.jsonl").read_bytes()).hexdigest()[:16]
    settings = {"name": "scenes", "size": size, "count": count, "seed": seed, "emoji": digest, "map_classes": list(MAP_CLASSES)}
    claim(out, settings)
    things = Things(emoji)
    rows: list[dict[str, Any]] = []
    tell = progress or (lambda done, total, what: None)
    for start in range(0, count, PER_SHARD):
        stop = min(start + PER_SHARD, count)
        shard = out / "shards" / f"scenes-{start // PER_SHARD:04}.tar"
        if not shard.exists():
            write_shard(shard, _scenes(things, shard.name, range(start, stop), count, size, seed, tell))
        rows += read_rows(shard)
    report = _report(out, rows)
    licences = source / "LICENSES.md"
    told = licences.read_text(encoding="utf-8") if licences.is_file() else ""
    write_text(out / "LICENSES.md", LICENCE_HEAD + told.replace("\n# ", "\n## ").removeprefix("# Licences and attribution\n\n"))
    write_text(out / "captions.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    write_text(out / "dataset.json", json.dumps({**settings, "complete": True, "splits": report.splits}, indent=2))
    tell(count, count, "done")
    return report


def _scenes(things: Things, shard: str, numbers: range, total: int, size: int, seed: int, tell: Progress) -> Iterator[Sample]:
    for number in numbers:
        if number % TOLD_EVERY == 0:
            tell(number, total, "composing")
        yield make_scene(things, shard, number, size, seed)


def make_scene(things: Things, shard: str, number: int, size: int, seed: int) -> Sample:
    """Scene `number`: its row, and its picture and map as PNG."""
    rng = numpy_stream("scenes", seed, number)
    split = "val" if stream_seed("scenes-split", seed, number) / 2**63 < HELD_OUT_SHARE else "train"
    scene = plan_scene(things, split, rng)
    composed = compose(scene, things, size, rng)
    name = f"scenes/{number:06}"
    row = {
        "file": f"{name}.png",
        "map": f"{name}.map.png",
        "shard": shard,
        "caption": caption(scene, rng),
        "split": split,
        "style": scene.style,
        "concepts": [thing.concept for thing in scene.things],
        "arrangement": arrangement(scene.things),
        "relations": relations(scene.things),
        "ground": scene.ground,
        "sky": f"{scene.sky} wall" if scene.indoors else scene.sky,
        "boxes": composed.boxes,
    }
    return row, {row["file"]: _png(composed.picture), row["map"]: _png(composed.indices)}


def _png(picture: Image.Image) -> bytes:
    out = io.BytesIO()
    picture.save(out, "PNG", compress_level=4)
    return out.getvalue()


def _report(out: Path, rows: list[dict[str, Any]]) -> SceneReport:
    splits, styles, grounds, skies = (
        dict(Counter(row[key] for row in rows).most_common()) for key in ("split", "style", "ground", "sky")
    )
    things = {str(number): many for number, many in sorted(Counter(len(row["concepts"]) for row in rows).items())}
    return SceneReport(out, splits, styles, grounds, skies, things)
