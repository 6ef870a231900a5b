"""`Thesaurus`: words that a model never heard, each read as words that it knows."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from undiffuse.data.wording import plural, singulars, with_article

WORD = re.compile(r"(?<![\w'-])(?:(an?) )?([a-z]+)(?![\w'-])", re.IGNORECASE)  # whole words, an article before them too


@dataclass(frozen=True)
class Thesaurus:
    """By word, in lower case and one of them, what it is read as; more than one of them are read likewise."""

    meant: Mapping[str, str]

    def read(self, caption: str) -> str:
        """The caption in words that are known: "an automobile, flat" as "a car, flat"."""
        return WORD.sub(self._instead, caption)

    def found(self, caption: str) -> dict[str, str]:
        """The words of a caption that are read as others, and as what, in their order."""
        words = dict.fromkeys(match[2] for match in WORD.finditer(caption))
        return {word: meant for word in words if (meant := self.of(word)) is not None}

    def of(self, word: str) -> str | None:
        """What a word is read as; None where that is itself."""
        word = word.lower()
        if word in self.meant:
            return self.meant[word]
        return next((plural(self.meant[one]) for one in singulars(word) if one in self.meant), None)

    def without(self, words: Collection[str]) -> Thesaurus:
        """The same for a model that learns `words`, in lower case: none of them is read as another any more."""
        return Thesaurus({word: meant for word, meant in self.meant.items() if word not in words and plural(word) not in words})

    def _instead(self, match: re.Match[str]) -> str:
        article, word = match.groups()
        meant = self.of(word)
        if meant is None:
            return match[0]
        return meant if article is None else with_article(meant)
