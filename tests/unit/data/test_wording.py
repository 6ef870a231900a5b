from __future__ import annotations

import pytest

from undiffuse.core.random import numpy_stream
from undiffuse.data.captions import CaptionSpec, name_pair, name_thing, name_twins, write_caption
from undiffuse.data.wording import named_in, plural, singulars, with_article


@pytest.mark.parametrize(
    "name",
    "a fox|an apple|a unicorn|an hourglass done|a one-piece swimsuit|an x-ray|grapes|glasses|scissors|a bus|an octopus|"
    "a rhinoceros|a cat with tears of joy|a bowl with spoon|a woman's hat|a kiss mark|bread|cooked rice|santa claus|"
    "fork and knife|no entry|two o'clock|people holding hands|a man lifting weights|an umbrella|a euro banknote".split("|"),
)
def test_articles(name: str) -> None:
    bare = name.removeprefix("an ").removeprefix("a ")
    assert with_article(bare) == name


def test_an_empty_name_has_no_article() -> None:
    assert with_article("") == ""


def test_parts_that_are_empty_leave_no_trace() -> None:
    rng = numpy_stream("a")
    spec = CaptionSpec(unstyled=0.0)
    captions = {write_caption("a fox", "", "", spec, rng) for _ in range(50)}
    assert captions == {"a fox"}


def test_painted_captions_are_english_for_every_style() -> None:
    spec = CaptionSpec(orders={"painted": 1.0}, unstyled=0.0)
    said = [write_caption("a fox", style, "", spec, numpy_stream("a")) for style in ("3d render", "noto", "firefox style")]
    assert said == ["3d render of a fox", "a fox in noto style", "a fox in firefox style"]


def test_keywords_come_after_the_name_or_alone() -> None:
    spec = CaptionSpec(keywords=1.0)
    said = {name_thing("fox", ["animal", "forest"], spec, numpy_stream("k", n)) for n in range(60)}
    both = ("animal, forest", "forest, animal")
    assert said == {"fox, animal", "fox, forest", *both, *(f"fox, {words}" for words in both)}


def test_pairs_say_who_is_where() -> None:
    side = {name_pair("fox", "owl", False, numpy_stream("p", n)) for n in range(60)}
    stacked = {name_pair("fox", "owl", True, numpy_stream("p", n)) for n in range(60)}
    assert "a fox on the left and an owl on the right" in side and "a fox next to an owl" in side
    assert stacked == {"a fox above an owl", "an owl below a fox", "a fox at the top and an owl at the bottom"}


def test_two_of_one_thing_are_said_to_be_two() -> None:
    said = {name_twins("fox", numpy_stream("t", n)) for n in range(60)}
    assert said == {"two foxes", "two foxes side by side", "two foxes next to each other", "a pair of foxes"}


@pytest.mark.parametrize(
    ("many", "one"),
    [("dogs", ["dog"]), ("wolves", ["wolf", "wolve"]), ("foxes", ["foxe", "fox"]), ("cherries", ["cherrie", "cherry"])],
)
def test_what_there_may_be_more_than_one_of(many: str, one: list[str]) -> None:
    assert singulars(many) == one
    assert [plural(word) for word in one] == [many] * len(one)


@pytest.mark.parametrize("word", ["fish", "dog", "glass", "rice", "s", ""])
def test_what_is_one_already_has_no_other_form(word: str) -> None:
    assert singulars(word) == []


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("a red apple beside two foxes, flat", ["red apple", "fox"]),
        ("an apple, a red apple and apples", ["apple", "red apple"]),
        ("a foxglove and a fire-fox", []),
        ("A Box (with corners)", ["box"]),
        ("", []),
    ],
)
def test_names_in_a_sentence(text: str, named: list[str]) -> None:
    assert named_in(text, ["apple", "red apple", "fox", "box", "a+b"]) == named
    assert named_in(text, []) == []
