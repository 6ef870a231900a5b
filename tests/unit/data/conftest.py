"""Tiny stand-ins: art packages of a few icons, pictures, and data sets on disk."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from undiffuse.data.emoji.sources import KEYWORDS, LABELS, STYLES, Package, Style

FOX, GRIN, BEARD, ARROW, FLAG = "1F98A", "1F600", "1F9D4", "27A1", "1F1EB-1F1F7"
ENTRIES = [
    {"label": "grinning face", "hexcode": GRIN, "tags": ["face", "grin", ":D"], "group": 0, "subgroup": 0, "order": 1},
    {
        "label": "person: beard",
        "hexcode": BEARD,
        "tags": ["beard"],
        "group": 1,
        "subgroup": 1,
        "order": 2,
        "skins": [{"label": "person: dark skin tone, beard", "hexcode": f"{BEARD}-1F3FF"}],
    },
    {"label": "fox", "hexcode": f"{FOX}-FE0F", "tags": ["face", "fox", "Reynard"], "group": 3, "subgroup": 2, "order": 3},
    {"label": "family: man, boy", "hexcode": "1F468-200D-1F466", "group": 1, "subgroup": 1, "order": 4},
    {"label": "right arrow", "hexcode": ARROW, "group": 8, "subgroup": 3, "order": 5},
    {"label": "flag: France", "hexcode": FLAG, "group": 9, "subgroup": 4, "order": 6},
]
GROUPS = {
    "groups": {"0": "smileys-emotion", "1": "people-body", "3": "animals-nature", "8": "symbols", "9": "flags"},
    "subgroups": {"0": "face-smiling", "1": "person", "2": "animal-mammal", "3": "arrow", "4": "country-flag"},
}
# Old and new names of the icons, as sets of different years call them.
NAMES = {
    "table": {"grinning-face": GRIN, "fox": FOX, "person-beard": BEARD, "right-arrow": ARROW},
    "slug": {"grinning-face": GRIN, "fox-face": FOX, "person-beard": BEARD},
    "joined": {"grinningface": GRIN, "reynard": FOX, "tramcar": GRIN},
}


def circle(colour: str) -> str:
    return f'<circle cx="16" cy="16" r="12" fill="{colour}"/>'


def write_tarball(path: Path, files: Mapping[str, bytes]) -> None:
    with tarfile.open(path, "w:gz") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(f"package/{name}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def as_json(value: object) -> bytes:
    return json.dumps(value).encode()


def png(picture: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def art_files(style: Style) -> dict[str, bytes]:
    if style.naming == "files":
        picture = Image.new("RGBA", (32, 32))
        picture.paste((200, 80, 20, 255), (8, 8, 24, 24))
        grin = Image.new("RGBA", (32, 32), (250, 210, 40, 255))
        return {f"assets/{FOX.lower()}.webp": png(picture, "WEBP"), f"assets/{GRIN.lower()}.webp": png(grin, "WEBP")}
    names = NAMES[style.naming]
    shades = {GRIN: "#fc0", FOX: "#e62", BEARD: "#963", ARROW: "#06c"}
    icons = {name: {"body": circle(shades[code])} for name, code in names.items()}
    files = {}
    if style.id == "noto":
        icons["broken"] = {"body": "<circle"}
        names = {**names, "broken": f"{BEARD}-1F3FF"}
    if style.naming == "table":
        files["chars.json"] = as_json({code.lower(): name for name, code in names.items()})
    pack = {"icons": icons, "aliases": {"fox-face": {"parent": "fox"}, "xof": {"parent": "fox", "hFlip": True}}}
    return files | {"icons.json": as_json({**pack, "width": 32, "height": 32})}


def packages() -> dict[Package, dict[str, bytes]]:
    labels = {
        "en/data.json": as_json(ENTRIES),
        "meta/groups.json": as_json(GROUPS),
        "en/shortcodes/github.json": as_json({FOX: ["reynard", "animal"], GRIN: "animal"}),
    }
    keywords = {"dist/emoji-en-US.json": as_json({"\N{FOX FACE}": ["fox_face", "animal", "mouse2"]})}
    return {LABELS: labels, KEYWORDS: keywords} | {style.package: art_files(style) for style in STYLES}


@pytest.fixture
def downloads(tmp_path: Path) -> Path:
    """A folder with a tiny tarball for every package of the emoji set, at `tmp_path/emoji/.downloads`."""
    folder = tmp_path / "emoji" / ".downloads"
    folder.mkdir(parents=True)
    for package, files in packages().items():
        write_tarball(folder / package.tarball, files)
    return folder


@pytest.fixture
def fake_npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Put a program called npm on an otherwise empty PATH that runs this shell script."""

    def install(script: str) -> None:
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        program = folder / "npm"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")

    return install


def photo(seed: int, size: tuple[int, int] = (40, 32)) -> Image.Image:
    """A picture of random pixels without transparency."""
    levels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(levels)


def cutout(colour: tuple[int, int, int], size: int = 32) -> Image.Image:
    """A square of this colour with a transparent border."""
    picture = Image.new("RGBA", (size, size))
    picture.paste((*colour, 255), (size // 4, size // 4, size * 3 // 4, size * 3 // 4))
    return picture


@pytest.fixture
def emoji_like(tmp_path: Path) -> Path:
    """Four cut-outs, two concepts in two styles, with a metadata list."""
    folder = tmp_path / "cutouts"
    folder.mkdir()
    lines = []
    for concept, colour in (("fox", (230, 100, 30)), ("rocket", (90, 90, 200))):
        for style in ("3d render", "noto"):
            name = f"{concept}-{style.split()[0]}.png"
            cutout(colour).save(folder / name)
            row = {"file_name": name, "text": f"{concept}, {style}", "concept": concept, "style": style, "split": "train"}
            lines.append(json.dumps({**row, "keywords": [f"{concept} like", "thing"]}))
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    return folder
