"""The art sets and name lists that the emoji data set is built from, each pinned to one npm version."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Package:
    """One npm package at one version."""

    name: str
    version: str

    @property
    def tarball(self) -> str:
        """The file name that `npm pack` gives it."""
        return f"{self.name.lstrip('@').replace('/', '-')}-{self.version}.tgz"

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"


@dataclass(frozen=True)
class Style:
    """One art set: how captions call it, where it comes from, and how its pictures are named.

    `naming` is "files" (bitmaps, their names are code points), "table" (icons with a table of code points),
    "slug" (icons named by slugs of older or newer Unicode labels) or "joined" (icons named by words
    written together).
    """

    id: str
    phrase: str
    package: Package
    naming: Literal["files", "table", "slug", "joined"]
    licence: str
    credit: str
    home: str


LABELS = Package("emojibase-data", "17.0.0")
KEYWORDS = Package("emojilib", "4.0.3")

STYLES: tuple[Style, ...] = (
    Style(
        "fluent-3d",
        "3d render",
        Package("@lobehub/fluent-emoji-3d", "1.1.0"),
        "files",
        "MIT",
        "Fluent Emoji, Copyright (c) Microsoft Corporation; packaged by LobeHub",
        "https://github.com/microsoft/fluentui-emoji",
    ),
    Style(
        "fluent-color",
        "glossy gradient",
        Package("@iconify-json/fluent-emoji", "1.2.7"),
        "slug",
        "MIT",
        "Fluent Emoji, Copyright (c) Microsoft Corporation",
        "https://github.com/microsoft/fluentui-emoji",
    ),
    Style(
        "fluent-flat",
        "flat",
        Package("@iconify-json/fluent-emoji-flat", "1.2.6"),
        "table",
        "MIT",
        "Fluent Emoji, Copyright (c) Microsoft Corporation",
        "https://github.com/microsoft/fluentui-emoji",
    ),
    Style(
        "noto",
        "noto",
        Package("@iconify-json/noto", "1.2.9"),
        "table",
        "Apache-2.0",
        "Noto Emoji, Copyright Google Inc.",
        "https://github.com/googlefonts/noto-emoji",
    ),
    Style(
        "noto-v1",
        "blob",
        Package("@iconify-json/noto-v1", "1.2.5"),
        "slug",
        "Apache-2.0",
        "Noto Emoji version 1, Copyright Google Inc.",
        "https://github.com/googlefonts/noto-emoji",
    ),
    Style(
        "twemoji",
        "twemoji",
        Package("@iconify-json/twemoji", "1.2.5"),
        "table",
        "CC-BY-4.0",
        "Twemoji, Copyright Twitter, Inc and other contributors",
        "https://github.com/jdecked/twemoji",
    ),
    Style(
        "emojione",
        "emojione",
        Package("@iconify-json/emojione", "1.2.3"),
        "slug",
        "CC-BY-4.0",
        "EmojiOne version 2, Copyright Emoji One; kept alive as EmojiTwo",
        "https://github.com/EmojiTwo/emojitwo",
    ),
    Style(
        "fxemoji",
        "firefox style",
        Package("@iconify-json/fxemoji", "1.2.2"),
        "joined",
        "Apache-2.0",
        "FxEmojis, Copyright Mozilla Foundation",
        "https://github.com/mozilla/fxemoji",
    ),
)
