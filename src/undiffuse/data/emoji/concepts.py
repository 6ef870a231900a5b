"""The concepts: what a picture shows, in plain lower-case English, with keywords and groups."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from undiffuse.data.emoji.fetch import Tarball

# Flags, loose parts, and signs that are text, arrows or buttons rather than pictures of something.
DROPPED_GROUPS = frozenset({"component", "flags"})
DROPPED_SUBGROUPS = frozenset(
    "alphanum arrow av-symbol currency gender keycap math other-symbol punctuation religion transport-sign zodiac".split()
)
# Two sets draw families of every make-up as one and the same silhouette.
DROPPED_LABELS = ("family: ",)

# "man: red hair" and its kin read better as phrases; {0} is the part before the colon, {1} the list after it.
PHRASES = {
    "facing right": "{0} facing right",
    "bald": "bald {0}",
    "beard": "{0} with a beard",
    "kiss": "kiss between {1}",
    "couple with heart": "couple with heart, {1}",
}


@dataclass(frozen=True)
class Concept:
    """One thing that every art set may draw.

    `codepoint` is upper-case hexadecimal, joined by "-", without the emoji variation selector; `base` is
    the code point of the same thing without a skin tone.
    """

    name: str
    codepoint: str
    base: str
    keywords: tuple[str, ...]
    group: str
    subgroup: str

    @property
    def slug(self) -> str:
        """The name as a file name."""
        return slug(self.name)


def plain(text: str) -> str:
    """Lower-case ASCII: accents folded, curly quotes straightened or dropped."""
    straight = text.translate({0x2019: "'", 0x201C: None, 0x201D: None})
    return unicodedata.normalize("NFKD", straight).encode("ascii", "ignore").decode().lower()


def slug(text: str) -> str:
    """Words joined by hyphens, as icon sets name their files."""
    bare = re.sub(r"['.]", "", plain(text).replace("&", " and "))
    return re.sub(r"[^a-z0-9]+", "-", bare).strip("-")


def normal_codepoint(hexcode: str) -> str:
    """Upper case, without the variation selector that some sets write and others do not."""
    return hexcode.upper().replace("-FE0F", "")


def concept_name(label: str) -> str:
    """The Unicode label as a phrase that reads well in a caption."""
    head, colon, tail = plain(label).partition(": ")
    if not colon:
        return head
    listed = " and ".join(tail.rsplit(", ", 1))
    template = PHRASES.get(tail) or PHRASES.get(head) or "{0} with {1}"
    return template.format(head, listed)


def read_concepts(labels: Tarball, keywords: Tarball, skins: bool = False) -> list[Concept]:
    """All concepts worth drawing, in Unicode order.

    Args:
        labels: the emojibase-data tarball.
        keywords: the emojilib tarball.
        skins: also one concept for every skin tone of a base concept.
    """
    names = labels.json("meta/groups.json")
    more = {normal_codepoint(_hexcode(emoji)): words for emoji, words in keywords.json("dist/emoji-en-US.json").items()}
    concepts = []
    for entry in sorted(labels.json("en/data.json"), key=lambda entry: entry.get("order", 0)):
        group = names["groups"].get(str(entry.get("group")), "component")
        subgroup = names["subgroups"].get(str(entry.get("subgroup")), "")
        if group in DROPPED_GROUPS or subgroup in DROPPED_SUBGROUPS or entry["label"].startswith(DROPPED_LABELS):
            continue
        base = normal_codepoint(entry["hexcode"])
        words = _keywords(entry, more.get(base, []))
        for one in [entry, *(entry.get("skins", []) if skins else [])]:
            name = concept_name(one["label"])
            concepts.append(Concept(name, normal_codepoint(one["hexcode"]), base, words, group, subgroup))
    return concepts


def _hexcode(emoji: str) -> str:
    return "-".join(f"{ord(character):04X}" for character in emoji)


def _keywords(entry: Mapping[str, Any], more: list[str]) -> tuple[str, ...]:
    """Both lists joined: words and short phrases only, none twice, and not the name itself."""
    seen = {concept_name(entry["label"]): None}
    for word in [*entry.get("tags", []), *more]:
        tidy = plain(word).replace("_", " ").strip()
        if re.fullmatch(r"[a-z][a-z '-]+", tidy):
            seen.setdefault(tidy)
    return tuple(seen)[1:]
