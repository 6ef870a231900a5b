"""The gallery's search: pictures in folders by the words that they tell, whatever program wrote them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from undiffuse.core.pictures import to_rgb

KINDS = (".png", ".jpg", ".jpeg", ".webp")
SMALL = 256  # pixels on the longer side of a copy
TELLING = ("parameters", "Description", "Comment", "prompt", "workflow", "undiffuse", "Title", "Software")
"""Chunks in which programs tell of a picture: A1111's and ours, NovelAI's, ComfyUI's."""
USER_COMMENT, EXIF = 0x9286, 0x8769


def pictures_in(folder: Path) -> list[Path]:
    """The pictures in a folder and the folders in it, the newest first; links that lead out of it are passed over."""
    root = folder.resolve()
    found = [path for path in folder.rglob("*") if path.suffix.lower() in KINDS and path.is_file()]
    inside = [path for path in found if path.resolve().is_relative_to(root)]
    return sorted(inside, key=lambda path: path.stat().st_mtime, reverse=True)


def search(paths: Iterable[Path], words: str) -> list[Path]:
    """Those of these pictures whose text, or whose name, has all of these words in it."""
    wanted = words.lower().split()
    return [path for path in paths if all(word in text for text in [f"{path.name} {telling(path)}".lower()] for word in wanted)]


def small(path: Path) -> Image.Image:
    """A small copy of a picture; a grey one where it cannot be read."""
    return _small(path, os.stat(path).st_mtime_ns)


@lru_cache(maxsize=1000)
def _small(path: Path, changed: int) -> Image.Image:
    try:
        with Image.open(path) as image:
            image.thumbnail((SMALL, SMALL))
            return to_rgb(image)
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError, Image.DecompressionBombError):
        return Image.new("RGB", (SMALL, SMALL), "grey")


def telling(path: Path) -> str:
    """Everything that a picture tells of itself."""
    return _telling(path, os.stat(path).st_mtime_ns)


@lru_cache(maxsize=20_000)
def _telling(path: Path, changed: int) -> str:
    try:
        with Image.open(path) as image:
            texts = [_text(image.info[name]) for name in TELLING if name in image.info]
            comment = image.getexif().get_ifd(EXIF).get(USER_COMMENT) if path.suffix.lower() != ".png" else None
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError):
        return ""
    return "\n".join([*texts, *([_comment(comment)] if comment else [])])


def _text(value: object) -> str:
    if isinstance(value, dict):
        return json.dumps(value)
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _comment(comment: bytes | str) -> str:
    """A UserComment of Exif: eight letters for the encoding, then the text."""
    if isinstance(comment, str):
        return comment
    kind, text = comment[:8], comment[8:]
    return text.decode("utf-16-be" if kind.startswith(b"UNICODE") else "utf-8", "replace")
