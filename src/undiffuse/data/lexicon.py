"""`Lexicon`: nouns of a language, what each may mean, and what that is a kind of; read from the files of WordNet."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from undiffuse.core.errors import DataError, explain

SYNSETS, WORDS, COUNTS = "data.noun", "index.noun", "cntlist.rev"
INSTANCE = "@i"  # of what there is but one, to what it is
IS_A = ("@", INSTANCE)  # what WordNet calls hypernym and instance hypernym
SENSE = "n"
NEEDED = f"{SYNSETS}, {WORDS} and {COUNTS}"
NOUN, VERB, ADJECTIVES = "1", "2", ("3", "5")  # in the keys of senses
CLEARLY = 2  # occurrences more, for a word to be something else than a noun

DEPICTED = {5: "animal", 6: "artifact", 8: "body", 10: "communication", 11: "event", 12: "feeling", 13: "food", 15: "location",
            17: "object", 18: "person", 19: "phenomenon", 20: "plant", 25: "shape", 27: "substance", 28: "time"}  # fmt: skip
"""WordNet's files of senses that can be pictured, by their number; acts, states, sums and the like are in others."""
LATIN = (5, 20)  # where names with capital letters are those of biologists


@dataclass(frozen=True)
class Sense:
    """One meaning: its names, the commonest first, a definition, what it is a kind of, and WordNet's file of it.

    With `single` there is but one of it, as of a person or a town.
    """

    names: tuple[str, ...]
    definition: str
    kinds: tuple[str, ...]
    file: int
    single: bool = False

    def depicts(self, word: str) -> bool:
        """Whether it can be pictured, and the word, in lower case, is no proper name of it."""
        common = not self.single and (word in self.names or self.file not in LATIN)
        return common and self.file in DEPICTED


@dataclass(frozen=True)
class Lexicon:
    """Meanings by number, and by word, in lower case, the numbers of what it means, the commonest first.

    `others` are words that are verbs or adjectives more often than nouns.
    """

    senses: Mapping[str, Sense]
    words: Mapping[str, tuple[str, ...]]
    others: frozenset[str] = frozenset()

    def pictured(self) -> list[str]:
        """The words that mean something that can be pictured, and are no verbs or adjectives in the first place."""
        return [word for word in self.words if word not in self.others and self.depicted(word, 1)]

    def depicted(self, word: str, most: int) -> list[str]:
        """The first meanings of a word, `most` of them, that can be pictured; none of proper names and unknown words."""
        return [number for number in self.words.get(word, ()) if self.senses[number].depicts(word)][:most]

    def broader(self, number: str, most: int) -> dict[str, int]:
        """What a meaning is a kind of, itself among it, with how many steps it is away; up to `most`."""
        found = {number: 0}
        waiting = deque([number])
        while waiting:
            at = waiting.popleft()
            if found[at] < most:
                new = [kind for kind in self.senses[at].kinds if kind not in found]
                found |= dict.fromkeys(new, found[at] + 1)
                waiting.extend(new)
        return found


def read_wordnet(folder: str | Path) -> Lexicon:
    """The nouns of WordNet (Fellbaum 1998), from its database files of version 3.

    Raises:
        DataError: when they are not there, or are something else.
    """
    folder = Path(folder).expanduser()
    senses, words = {}, {}
    try:
        for fields, definition in _lines(folder / SYNSETS):
            senses[fields[0]] = _sense(fields, definition)
        for fields, _ in _lines(folder / WORDS):
            words[_plain(fields[0])] = tuple(fields[-int(fields[2]) :])
        numbers = {number for meant in words.values() for number in meant} | {k for one in senses.values() for k in one.kinds}
        if not words or not numbers <= senses.keys():
            raise ValueError("the files do not belong together")
        others = _no_nouns(folder / COUNTS)
    except OSError as error:
        remedy = "install Debian's wordnet-base, or unpack WordNet 3 from wordnet.princeton.edu and name its folder 'dict'"
        raise DataError(explain(f"no WordNet in {folder} ({error.strerror})", f"{NEEDED} are needed", remedy)) from None
    except (ValueError, IndexError) as error:
        given = f"{folder} holds something else than the database of WordNet 3 ({error})"
        raise DataError(explain(given, f"{NEEDED} are needed")) from None
    return Lexicon(senses, words, others)


def _lines(path: Path) -> list[tuple[list[str], str]]:
    """Fields and definition of every line; those that begin with blanks are the licence."""
    lines = (line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("  "))
    return [(fields.split(), definition.strip()) for fields, _, definition in (line.partition("| ") for line in lines)]


def _sense(fields: Sequence[str], definition: str) -> Sense:
    """A line of the synsets: number, file, type, so many names with a number each, so many pointers of four fields each."""
    count = int(fields[3], 16)
    names = tuple(_plain(name) for name in fields[4 : 4 + 2 * count : 2])
    pointers = fields[5 + 2 * count :]
    kinds = [pointers[at + 1] for at in range(0, len(pointers), 4) if pointers[at] in IS_A and pointers[at + 2] == SENSE]
    return Sense(names, definition.partition("; ")[0], tuple(kinds), int(fields[1]), INSTANCE in pointers)


def _no_nouns(path: Path) -> frozenset[str]:
    """Words that are verbs or adjectives more often than nouns, by lines that tell of every sense how often it was met."""
    found: Counter[tuple[str, str]] = Counter()
    for line in path.read_text(encoding="utf-8").splitlines():
        key, _, count = line.split()
        name, _, rest = key.partition("%")
        found[_plain(name), rest[0]] += int(count)
    words = {word for word, _ in found}
    other = {word: max(found[word, VERB], sum(found[word, kind] for kind in ADJECTIVES)) for word in words}
    return frozenset(word for word in words if other[word] > found[word, NOUN] + CLEARLY)


def _plain(name: str) -> str:
    return name.replace("_", " ")
