"""Small English: the article that a name takes."""

from __future__ import annotations

import re

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
