"""What will be drawn: every (concept, style) pair, its caption and its side of the fixed split."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from undiffuse.core.random import stream_seed
from undiffuse.data.emoji.art_sets import Icons
from undiffuse.data.emoji.concepts import Concept
from undiffuse.data.emoji.sources import STYLES, Style

HELD_OUT_SHARE = 0.066
HELD_OUT_PER_CONCEPT = 2
FEWEST_STYLES = 3


@dataclass(frozen=True)
class Entry:
    """One picture of the data set: a concept in a style, and the icon that shows it."""

    concept: Concept
    style: Style
    icon: str
    split: str

    @property
    def file(self) -> str:
        """Its path inside the shard, unique in the data set."""
        return f"{self.style.id}/{self.concept.slug}.png"

    def row(self) -> dict[str, Any]:
        """Its line in captions.jsonl."""
        return {
            "file": self.file,
            "shard": f"{self.style.id}.tar",
            "caption": f"{self.concept.name}, {self.style.phrase}",
            "concept": self.concept.name,
            "style": self.style.phrase,
            "keywords": list(self.concept.keywords),
            "group": self.concept.group,
            "subgroup": self.concept.subgroup,
            "licence": self.style.licence,
            "source": str(self.style.package),
            "codepoint": self.concept.codepoint,
            "split": self.split,
        }


def catalogue(concepts: list[Concept], icons: Mapping[str, Icons]) -> dict[str, list[Entry]]:
    """Entries by style, in Unicode order of their concepts."""
    styles_of: dict[str, list[str]] = defaultdict(list)
    for style in STYLES:
        for concept in concepts:
            if concept.codepoint == concept.base and concept.base in icons[style.id]:
                styles_of[concept.base].append(style.id)
    held_out = {(base, style) for base, styles in styles_of.items() for style in held_out_styles(base, styles)}
    return {
        style.id: [
            Entry(concept, style, icon, "val" if (concept.base, style.id) in held_out else "train")
            for concept in concepts
            if (icon := icons[style.id].get(concept.codepoint)) is not None
        ]
        for style in STYLES
    }


def held_out_styles(codepoint: str, styles: list[str]) -> list[str]:
    """The styles in which this concept is kept for validation; it stays to be learnt in all the others."""
    if len(styles) < FEWEST_STYLES:
        return []
    ranks = {style: stream_seed("emoji-split", codepoint, style) / 2**63 for style in styles}
    return sorted((s for s in styles if ranks[s] < HELD_OUT_SHARE), key=ranks.__getitem__)[:HELD_OUT_PER_CONCEPT]
