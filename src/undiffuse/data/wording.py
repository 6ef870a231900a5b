"""Small English: the article that a name takes, its plural, and the names in a sentence."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

PROPER = ("kaaba", "milky way", "mount fuji", "mrs. claus", "mx claus", "santa claus", "statue of liberty", "tokyo tower")
WITHOUT_ARTICLE = frozenset(
    (
        "bacon badminton bowling bread broccoli butter camping construction cooking coral fire fog foggy garlic ginger hockey "
        "honey ice lacrosse locked luggage men oden pasta people pong popcorn prohibited radioactive rice sake salt sand "
        "smoking snow soap spaghetti sushi tennis tofu together unlocked water women wood zzz"
    ).split()
)
SINGULAR_IN_S = ("bellows", "rhinoceros")
SOUNDS_LIKE_A_CONSONANT = re.compile(r"(euro|ewe|one|once|uni|us[eu])")
SOUNDS_LIKE_A_VOWEL = re.compile(r"([aeiou]|hour|honest|x-)")
# What follows one of these only describes the thing.
DETAILS = re.compile(
    r",| (?:at|behind|between|facing|from|getting|holding|in|lifting|of|on|showing|to|with|without|wrestling)\b"
)
# Plurals that no rule gives.
IRREGULAR = {
    "person": "people", "man": "men", "woman": "women", "child": "children", "mouse": "mice", "ox": "oxen", "goose": "geese",
    "wolf": "wolves", "leaf": "leaves", "fish": "fish", "sheep": "sheep", "deer": "deer", "bison": "bison", "moose": "moose",
    "shrimp": "shrimp", "squid": "squid", "potato": "potatoes", "tomato": "tomatoes", "mango": "mangoes", "knife": "knives",
    "merman": "mermen", "aircraft": "aircraft", "loaf": "loaves",
}  # fmt: skip
SIBILANTS = ("s", "x", "z", "ch", "sh")
ENDS = (("s", ""), ("es", ""), ("ies", "y"))  # of plurals by rule, and of what they are the plural of


def with_article(name: str) -> str:
    """The name with "a" or "an"; plurals, substances, games, pairs and proper names stay as they are."""
    thing = DETAILS.split(name, maxsplit=1)[0]
    if not thing or name in PROPER or " and " in thing or name.startswith("no ") or name.endswith(("o'clock", "-thirty")):
        return name
    last = thing.split()[-1]
    if last in WITHOUT_ARTICLE or _is_plural(last):
        return name
    vowel = SOUNDS_LIKE_A_VOWEL.match(name) and not SOUNDS_LIKE_A_CONSONANT.match(name)
    return f"{'an' if vowel else 'a'} {name}"


def _is_plural(word: str) -> bool:
    return word.endswith("s") and not word.endswith(("ss", "us", "'s", *SINGULAR_IN_S))


def plural(name: str) -> str:
    """More than one of it: "foxes", "people with a beard"; what has no plural of its own stays as it is."""
    thing = DETAILS.split(name, maxsplit=1)[0]
    if not thing:
        return name
    *before, last = thing.split()
    if last in WITHOUT_ARTICLE or _is_plural(last):
        return name
    if last in IRREGULAR:
        many = IRREGULAR[last]
    elif last.endswith(SIBILANTS):
        many = f"{last}es"
    elif last.endswith("y") and last[-2:-1] not in "aeiou":
        many = f"{last[:-1]}ies"
    else:
        many = f"{last}s"
    return " ".join([*before, many]) + name[len(thing) :]


def singulars(many: str) -> list[str]:
    """Every word, known or not, that has this plural and another form than it."""
    by_name = [one for one, told in IRREGULAR.items() if told == many != one]
    by_rule = [many.removesuffix(end) + instead for end, instead in ENDS if many.endswith(end)]
    return by_name + [one for one in by_rule if plural(one) == many]


def named_in(text: str, names: Sequence[str]) -> list[str]:
    """Which of these names a text names, one or many of it, in the order of the text; of names within a name the longer one."""
    pattern, meant = _pattern(tuple(names))
    return list(dict.fromkeys(meant[found] for found in pattern.findall(text.lower())))


@lru_cache(maxsize=8)
def _pattern(names: tuple[str, ...]) -> tuple[re.Pattern[str], dict[str, str]]:
    """What finds names and their plurals, and the name that each of these is of."""
    meant = {plural(name).lower(): name for name in names} | {name.lower(): name for name in names}
    longest_first = sorted(filter(None, meant), key=len, reverse=True)
    either = "|".join(map(re.escape, longest_first)) or "(?!)"
    return re.compile(rf"(?<![\w-])(?:{either})(?![\w-])"), meant
