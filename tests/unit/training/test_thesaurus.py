"""Words that no caption has, and the pictures that the text encoder would have them call to mind."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
import torch

from undiffuse.conditioners.text import TextConditioner
from undiffuse.core.errors import DataError
from undiffuse.data.captions import CaptionSpec
from undiffuse.data.lexicon import Lexicon, Sense
from undiffuse.data.records import Row
from undiffuse.data.render import RenderSpec
from undiffuse.networks.text.bert import BertEncoder
from undiffuse.networks.text.wordpiece import MARKS, build_wordpiece
from undiffuse.training import thesaurus
from undiffuse.training.thesaurus import CHOICES, KINSHIP, TIMES, Thesaurus, kin, likeness, make_thesaurus

WORDS = ["dog", "hound", "boat", "ship", "a", "an", "on", "white", "background", "flat", "noto", ",", "##s", "b", "42"]
SPEC = RenderSpec(backgrounds={"white": 1.0}, captions=CaptionSpec(unsaid_white=0))
ROWS = [
    Row("0", "dog, flat", "dog", fields={"style": "flat"}),
    Row("1", "dog, noto", "dog", fields={"style": "noto"}),
    Row("2", "boat, flat", "boat", fields={"style": "flat"}),
    Row("3", "something", None),
]
SAID = ["a dog, flat, on a white background", "boat, noto"]


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


def words_of(found: Thesaurus) -> set[str]:
    """The foreign words of captions, among what could be foreign here."""
    said = {word for caption in found.captions.numbers for word in re.findall("[a-z]+", caption)}
    return said & {"hound", "ship", "pup", "dogs", "boats", "dog", "boat"}


def test_words_are_whole_and_in_no_caption(text: TextConditioner, tmp_path: Path) -> None:
    assert words_of(make_thesaurus(text, SAID, ROWS, SPEC, seed=1, folder=tmp_path)) == {"hound", "ship"}


LEXICON = Lexicon(
    senses={
        "1": Sense(("dog",), "an animal", (), 5),
        "2": Sense(("hound",), "a dog", ("1",), 5),
        "3": Sense(("boat",), "a ship", (), 6),
        "4": Sense(("pup",), "a hound", ("2",), 5),
    },
    words={"dog": ("1",), "hound": ("2",), "boat": ("3",), "pup": ("4",)},
)


def test_a_lexicon_says_what_words_are_a_kind_of(text: TextConditioner) -> None:
    named = {"1": [1], "3": [0]}
    assert kin(["2"], named, LEXICON) == {1: 0.5} and kin(["4"], named, LEXICON) == {1: 0.25} and kin([], named, LEXICON) == {}
    told = likeness(text, ["hound", "dog"], ["boat", "dog"], LEXICON)
    alone = likeness(text, ["hound: a dog", "dog: an animal"], ["boat", "dog"])  # of no word here more is known
    plain = likeness(text, ["hound", "dog"], ["boat", "dog"])
    torch.testing.assert_close(told[1], (plain[1] + alone[1]) / 2 + torch.tensor([0.0, KINSHIP]))
    with_kind = likeness(text, ["hound, dog: a dog"], ["boat", "dog"])
    torch.testing.assert_close(told[0], (plain[0] + with_kind[0]) / 2 + torch.tensor([0.0, KINSHIP / 2]))
    assert text.length == 16  # as before


def test_nouns_of_a_lexicon_are_taught_and_more_than_one_of_every_label(
    text: TextConditioner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(thesaurus, "likeness", lambda *_: torch.tensor([[0.3, 0.9], [0.3, 0.2]]))  # hound, pup: boat, dog
    found = make_thesaurus(text, SAID, ROWS, SPEC, seed=1, folder=tmp_path, lexicon=LEXICON)
    assert words_of(found) == {"hound", "dogs", "boats"}  # a pup is like nothing here
    said = {number: caption for caption, number in found.captions.numbers.items()}
    for number, places in zip(found.numbers.tolist(), found.places.tolist(), strict=True):
        assert "boats" not in said[number] or set(places) == {2}


def test_likenesses_are_kept_for_a_run_that_goes_on(
    text: TextConditioner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = make_thesaurus(text, SAID, ROWS, SPEC, seed=1, folder=tmp_path, lexicon=LEXICON)
    monkeypatch.setattr(thesaurus, "likeness", None)
    again = make_thesaurus(text, SAID, ROWS, SPEC, seed=1, folder=tmp_path, lexicon=LEXICON)
    assert torch.equal(first.places, again.places)
    with pytest.raises(TypeError):  # of other words they are not
        make_thesaurus(text, SAID, ROWS, SPEC, seed=1, folder=tmp_path)


def test_the_encoder_says_what_is_alike(text: TextConditioner) -> None:
    cosines = likeness(text, ["hound", "ship"], ["boat", "dog"])
    assert cosines.argmax(1).tolist() == [1, 0]
    torch.testing.assert_close(likeness(text, ["dog"], ["dog"]), torch.ones(1, 1))


def test_words_call_to_mind_what_they_are_like_in_the_style_that_is_said(
    text: TextConditioner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(thesaurus, "likeness", lambda *_: torch.tensor([[0.3, 0.9], [0.9, 0.3]]))  # hound, ship: boat, dog
    found = make_thesaurus(text, SAID, ROWS, SPEC, seed=1, folder=tmp_path)
    assert found.places.shape == (2 * TIMES, CHOICES)
    said = {number: caption for caption, number in found.captions.numbers.items()}
    for number, places in zip(found.numbers.tolist(), found.places.tolist(), strict=True):
        caption = said[number]
        likely = Counter(places).most_common(1)[0][0]
        wanted = 2 if "ship" in caption else 1 if "noto" in caption else 0
        assert likely == wanted and ("flat" in caption) != ("noto" in caption)
        assert 3 not in places  # nothing is known of what it shows


def test_the_seed_chooses(text: TextConditioner, tmp_path: Path) -> None:
    one, same, other = (
        make_thesaurus(text, SAID, ROWS, SPEC, seed=seed, folder=tmp_path / str(n)) for n, seed in enumerate((1, 1, 2))
    )
    assert torch.equal(one.places, same.places) and one.captions.numbers == same.captions.numbers
    assert not torch.equal(one.places, other.places)


def test_what_cannot_teach_is_refused(text: TextConditioner, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"without labels; .*set data\.label"):
        make_thesaurus(text, SAID, ROWS[3:], SPEC, seed=1, folder=tmp_path)
    with pytest.raises(DataError, match="captions have every word of the lexicon that is like a label"):
        make_thesaurus(text, ["dogs, boats"], ROWS, SPEC, 1, tmp_path / "words", Lexicon({}, {}))
    with pytest.raises(DataError, match="captions have every word of the text encoder"):
        make_thesaurus(text, ["a hound on a ship, a dog on a boat, flat, noto, white background"], ROWS, SPEC, 1, tmp_path)
