"""Nouns, what they mean, and what that is a kind of, from files as WordNet has them."""

from __future__ import annotations

from pathlib import Path

import pytest

from undiffuse.core.errors import DataError
from undiffuse.data.lexicon import read_wordnet

LICENCE = "  1 This software and database is being provided to you, the LICENSEE, by Princeton University\n"
SYNSETS = """\
00000010 05 n 01 animal 0 001 ~ 00000020 n 0000 | a living being that moves; "animals run"
00000020 05 n 02 dog 0 domestic_dog 0 002 @ 00000010 n 0000 ~ 00000030 n 0000 | a member of the genus Canis; "the dog barked"
00000030 05 n 02 hound 0 hound_dog 0 002 @ 00000020 n 0000 + 00000099 v 0101 | a dog used for hunting
00000040 18 n 02 hound 0 cad 0 000 | someone who is morally reprehensible
00000050 07 n 01 cad 0 000 | an attribute of nobody
00000070 05 n 01 Canis 0 001 @ 00000010 n 0000 | type genus of the Canidae
00000080 18 n 01 Martian 0 001 @ 00000010 n 0000 | imaginary people who live on Mars
00000060 05 n 01 Laika 0 001 @i 00000020 n 0000 | the first dog in space
"""
WORDS = """\
animal n 1 1 ~ 1 1 00000010
cad n 2 0 2 0 00000050 00000040
canis n 1 1 @ 1 0 00000070
dog n 1 2 @ ~ 1 1 00000020
domestic_dog n 1 2 @ ~ 1 1 00000020
hound n 2 1 @ 2 2 00000030 00000040
hound_dog n 1 1 @ 1 0 00000030
laika n 1 1 @ 1 0 00000060
martian n 1 1 @ 1 0 00000080
"""
COUNTS = """\
animal%1:05:00:: 1 4
animal%3:01:00:: 1 5
animal%5:00:00:physical:00 2 1
dog%1:05:00:: 1 42
dog%2:38:00:: 1 40
hound%1:05:00:: 1 1
hound%2:38:00:: 1 4
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data.noun").write_text(LICENCE + SYNSETS)
    (tmp_path / "index.noun").write_text(LICENCE + WORDS)
    (tmp_path / "cntlist.rev").write_text(COUNTS)
    return tmp_path


def test_words_mean_what_they_mean_first_things_first(folder: Path) -> None:
    lexicon = read_wordnet(folder)
    assert lexicon.words["hound"] == ("00000030", "00000040")
    sense = lexicon.senses["00000020"]
    assert sense.names == ("dog", "domestic dog") and sense.definition == "a member of the genus Canis"
    assert sense.kinds == ("00000010",) and lexicon.senses["00000060"].kinds == ("00000020",)
    assert lexicon.words["domestic dog"] == ("00000020",)


def test_a_sense_is_a_kind_of_broader_ones(folder: Path) -> None:
    lexicon = read_wordnet(folder)
    assert lexicon.broader("00000030", 4) == {"00000030": 0, "00000020": 1, "00000010": 2}
    assert lexicon.broader("00000030", 1) == {"00000030": 0, "00000020": 1}


def test_only_what_can_be_pictured_counts_and_no_proper_names(folder: Path) -> None:
    lexicon = read_wordnet(folder)
    assert lexicon.depicted("hound", 3) == ["00000030", "00000040"] and lexicon.depicted("hound", 1) == ["00000030"]
    assert lexicon.depicted("cad", 3) == ["00000040"]
    assert lexicon.depicted("martian", 3) == ["00000080"]
    assert lexicon.depicted("laika", 3) == lexicon.depicted("canis", 3) == lexicon.depicted("nothing", 3) == []


def test_files_that_are_not_there_or_something_else_are_told(folder: Path) -> None:
    with pytest.raises(DataError, match=r"no WordNet in .*nowhere .*install Debian's wordnet-base"):
        read_wordnet(folder / "nowhere")
    (folder / "index.noun").write_text("animal n 1 0 1 1 00000077\n")
    with pytest.raises(DataError, match=r"something else than the database of WordNet 3 .*do not belong together"):
        read_wordnet(folder)
    (folder / "index.noun").write_text("a list of animals\n")
    with pytest.raises(DataError, match="something else"):
        read_wordnet(folder)


def test_verbs_and_adjectives_are_told_from_nouns(folder: Path) -> None:
    lexicon = read_wordnet(folder)
    assert lexicon.others == {"hound"}  # not animal, by two occurrences
    assert lexicon.pictured() == ["animal", "cad", "dog", "domestic dog", "hound dog", "martian"]
