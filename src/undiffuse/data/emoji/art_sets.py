"""The two forms in which art sets come: a folder of bitmaps, and an Iconify table of SVG bodies."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any

from undiffuse.data.emoji.concepts import normal_codepoint
from undiffuse.data.emoji.dictionary import Dictionary
from undiffuse.data.emoji.fetch import Tarball
from undiffuse.data.emoji.raster import Drawing, svg_document
from undiffuse.data.emoji.sources import Style

Icons = dict[str, str]
"""Code point -> what the set calls its picture of it."""


class BitmapSet:
    """WebP files named by code point."""

    def __init__(self, style: Style, tarball: Tarball) -> None:
        self.style = style
        self._tarball = tarball

    def table(self) -> dict[str, str]:
        """Names -> code points, where names are words: none here."""
        return {}

    def icons(self, dictionary: Dictionary) -> Icons:
        """Every code point that the set draws."""
        return {normal_codepoint(PurePosixPath(name).stem): name for name in self._tarball.names(".webp")}

    def drawing(self, icon: str, key: str, size: int) -> Drawing:
        """What is needed to draw one icon at `size` pixels."""
        return Drawing(key, size, bitmap=self._tarball.read(icon))


class IconSet:
    """An Iconify package: SVG bodies by name, sometimes with aliases and a table of code points."""

    def __init__(self, style: Style, tarball: Tarball) -> None:
        self.style = style
        self._tarball = tarball

    def table(self) -> dict[str, str]:
        """Names and aliases -> code points, when the set brings its table."""
        if self.style.naming != "table":
            return {}
        names: dict[str, str] = {}
        for code, name in self._tarball.json("chars.json").items():
            names.setdefault(name, normal_codepoint(code))
        for alias, value in self._pack.get("aliases", {}).items():
            same_picture = set(value) == {"parent"}
            if same_picture and value["parent"] in names:
                names.setdefault(alias, names[value["parent"]])
        return names

    def icons(self, dictionary: Dictionary) -> Icons:
        """Every code point that the set draws, by its own table or by what its names mean."""
        shown = {name for name, icon in self._pack["icons"].items() if not icon.get("hidden")}
        if self.style.naming == "table":
            pairs = [(normal_codepoint(code), name) for code, name in self._tarball.json("chars.json").items()]
        else:
            meaning = dictionary.joined if self.style.naming == "joined" else dictionary.slug
            pairs = [(code, name) for name in sorted(shown) if (code := meaning(name)) is not None]
        found: Icons = {}
        for code, name in pairs:
            if name in shown:
                found.setdefault(code, name)
        return found

    def drawing(self, icon: str, key: str, size: int) -> Drawing:
        """What is needed to draw one icon at `size` pixels."""
        return Drawing(key, size, svg=svg_document(self._pack["icons"][icon], self._pack))

    @cached_property
    def _pack(self) -> Mapping[str, Any]:
        return self._tarball.json("icons.json")


ArtSet = BitmapSet | IconSet


def art_set(style: Style, tarball: Tarball) -> ArtSet:
    """The set in the form that its style's naming tells."""
    return (BitmapSet if style.naming == "files" else IconSet)(style, tarball)
