"""What icon names mean: names -> code points, for the art sets that bring no table of their own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from undiffuse.data.emoji.concepts import normal_codepoint, slug
from undiffuse.data.emoji.fetch import Tarball
from undiffuse.data.emoji.fx_names import FX_BROKEN, FX_NAMES


class Dictionary:
    """Icon names -> code points.

    Sets without a table use slugs of Unicode labels of their own year ("bear-face", now "bear"). The sets with
    a table keep such older names as aliases, so between them they know nearly every name.

    Args:
        labels: the emojibase-data tarball.
        known: names -> code points of each set that has a table.
    """

    def __init__(self, labels: Tarball, known: Iterable[Mapping[str, str]]) -> None:
        self._slugs: dict[str, str] = {"dizzy-face": "1F635"}  # the one old label that no set keeps
        for entry in labels.json("en/data.json"):
            for one in [entry, *entry.get("skins", [])]:
                self._slugs.setdefault(slug(one["label"]), normal_codepoint(one["hexcode"]))
        for names in known:
            self._slugs = {**names, **self._slugs}
        joined = {name.replace("-", ""): code for name, code in self._slugs.items()}
        special = {name: self._slugs[meaning] for name, meaning in FX_NAMES.items() if meaning in self._slugs}
        everything = {**_shortcodes(labels), **joined, **special}
        self._joined = {name: code for name, code in everything.items() if name not in FX_BROKEN}

    def slug(self, name: str) -> str | None:
        """The code point of an icon named by the slug of a label."""
        return self._slugs.get(name)

    def joined(self, name: str) -> str | None:
        """The code point of an icon whose name is words written together."""
        return self._joined.get(name)


def _shortcodes(labels: Tarball) -> dict[str, str]:
    """Chat shortcodes that mean one emoji only ("earofrice")."""
    meanings: dict[str, set[str]] = {}
    for path in labels.names(".json"):
        if path.startswith("en/shortcodes/"):
            for code, words in labels.json(path).items():
                for word in [words] if isinstance(words, str) else words:
                    meanings.setdefault(slug(word).replace("-", ""), set()).add(normal_codepoint(code))
    return {word: codes.pop() for word, codes in meanings.items() if len(codes) == 1}
