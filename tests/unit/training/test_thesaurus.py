"""A thesaurus made from a lexicon: what a word is like, and which words that is asked of."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from undiffuse.conditioners.text import TextConditioner
from undiffuse.core.errors import DataError
from undiffuse.data.lexicon import Lexicon, Sense
from undiffuse.networks.text.bert import BertEncoder
from undiffuse.networks.text.wordpiece import MARKS, build_wordpiece
from undiffuse.training import texts, thesaurus
from undiffuse.training.texts import read_others
from undiffuse.training.thesaurus import KINSHIP, kin, likeness, make_thesaurus, words_of

WORDS = ["dog", "hound", "boat", "ship", "a", "an", "on", "white", "background", "flat", "noto", ",", "##s", "b", "42"]
SAID = ["a dog, flat, on a white background", "boat, noto"]
LEXICON = Lexicon(
    senses={
        "1": Sense(("dog",), "an animal", (), 5),
        "2": Sense(("hound",), "a dog", ("1",), 5),
        "3": Sense(("boat",), "a ship", (), 6),
        "4": Sense(("pup",), "a hound", ("2",), 5),
        "5": Sense(("BS",), "a boat", (), 6),
    },
    words={
        "dog": ("1",),
        "hound": ("2",),
        "boat": ("3",),
        "pup": ("4",),
        "sea dog": ("1",),
        "up": ("4",),
        "bs": ("5",),
        "portrait": ("3",),
        "hounding": ("2",),
    },
    others=frozenset({"hounding"}),
)


@pytest.fixture
def text() -> TextConditioner:
    """An encoder to which a hound is nearly a dog, and a ship nearly a boat."""
    pieces = [*MARKS, *WORDS]
    with torch.random.fork_rng():
        torch.manual_seed(3)
        encoder = BertEncoder(vocabulary=len(pieces), width=16, layers=1, heads=2, hidden=16, positions=16)
    table = encoder.words.weight.data
    for word, other in (("hound", "dog"), ("ship", "boat")):
        table[pieces.index(word)] = table[pieces.index(other)] + 0.1 * table[pieces.index(word)]
    return TextConditioner(build_wordpiece(pieces), encoder, length=16)


def test_a_lexicon_says_what_words_are_a_kind_of(text: TextConditioner) -> None:
    named = {"1": [1], "3": [0]}
    assert kin(["2"], named, LEXICON) == {1: 0.5} and kin(["4"], named, LEXICON) == {1: 0.25} and kin([], named, LEXICON) == {}

    def cosine(said: str, label: str) -> torch.Tensor:
        one, other = (text([{"caption": words}]).vector for words in (said, label))
        assert one is not None and other is not None
        return torch.cosine_similarity(one, other)[0]

    found = likeness(text, ["hound", "dog", "bs"], ["boat", "dog"], LEXICON)
    rows = [("hound", "hound, dog: a dog", KINSHIP / 2), ("dog", "dog: an animal", KINSHIP), (None, "bs: a boat", 0.0)]
    for row, (word, sense, kinship) in enumerate(rows):
        told = {"boat": "boat: a ship", "dog": "dog: an animal"}
        by_sense = torch.stack([(cosine(sense, label) + cosine(sense, told[label])) / 2 for label in told])
        plain = by_sense if word is None else (by_sense + torch.stack([cosine(word, label) for label in told])) / 2
        torch.testing.assert_close(found[row], plain + torch.tensor([0.0, kinship]))  # what is in pieces says nothing itself


def test_nouns_that_no_caption_has_are_read_as_labels_that_they_are_like(
    text: TextConditioner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def likely(_: object, words: list[str], *__: object) -> torch.Tensor:
        asked.extend(words)
        return torch.tensor([[0.3, 0.9], [0.3, 0.2]])

    monkeypatch.setattr(thesaurus, "likeness", likely)  # hound, pup: boat, dog
    found = make_thesaurus(text, SAID, ["dog", "boat", "dog"], LEXICON, tmp_path)
    assert asked == ["hound", "pup"]  # none of two words or two letters, of verbs, nor of what pictures are
    assert found.meant == {"hound": "dog", "boats": "boat", "dogs": "dog"}  # a pup is like nothing here

    told = make_thesaurus(text, [*SAID, "Hounds"], ["dog", "boat"], Lexicon(LEXICON.senses, {"hound": ("2",)}), tmp_path)
    assert told.meant == {"boats": "boat", "dogs": "dog"}  # more than one of it are known


def test_likenesses_are_kept_for_a_run_that_goes_on(
    text: TextConditioner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = make_thesaurus(text, SAID, ["dog", "boat"], LEXICON, tmp_path)
    monkeypatch.setattr(thesaurus, "likeness", None)
    assert make_thesaurus(text, SAID, ["boat", "dog"], LEXICON, tmp_path) == first
    with pytest.raises(TypeError):  # of other words they are not
        make_thesaurus(text, [*SAID, "pup"], ["dog", "boat"], LEXICON, tmp_path)
    monkeypatch.setattr(thesaurus, "STEPS", 1)
    with pytest.raises(TypeError):  # nor by other rules
        make_thesaurus(text, SAID, ["dog", "boat"], LEXICON, tmp_path)


@pytest.fixture
def reader(text: TextConditioner, monkeypatch: pytest.MonkeyPatch) -> None:
    """The encoder in place of all-MiniLM-L6-v2."""
    monkeypatch.setattr(texts, "load_minilm", lambda: (text.encoder, text.tokenizer))


@pytest.mark.usefixtures("reader")
def test_a_model_that_goes_on_reads_the_words_of_its_captions(text: TextConditioner, tmp_path: Path) -> None:
    assert not read_others(text, SAID, [None], None, tmp_path, None) and text.thesaurus is None
    text.thesaurus = thesaurus.Thesaurus({"hound": "dog", "pup": "dog", "whelp": "dog"})
    assert read_others(text, ["Two pups"], [None, "a whelp"], None, tmp_path, None)
    assert text.read_as("a hound, a pup, a whelp") == {"hound": "dog"}
    assert read_others(text, [*SAID, "a pup"], ["dog", None, "boat"], LEXICON, tmp_path, None)
    assert text.read_as("a hound, a pup").keys() == {"hound"}


@pytest.mark.usefixtures("reader")
def test_words_need_labels_to_be_read_as(text: TextConditioner, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"pictures without labels; .*set data\.label"):
        read_others(text, SAID, [None, None], LEXICON, tmp_path, None)


def test_words_are_those_of_letters() -> None:
    assert words_of(["A merry-go-round, 3D", "hound's"]) == {"a", "merry", "go", "round", "d", "hound", "s"}
