"""Words that no caption has, and the pictures that the text encoder would have them call to mind."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch

from undiffuse.conditioners.text import TextConditioner
from undiffuse.core.errors import DataError
from undiffuse.data.captions import CaptionSpec
from undiffuse.data.records import Row
from undiffuse.data.render import RenderSpec
from undiffuse.networks.text.bert import BertEncoder
from undiffuse.networks.text.wordpiece import MARKS, build_wordpiece
from undiffuse.training import thesaurus
from undiffuse.training.thesaurus import CHOICES, TIMES, likeness, make_thesaurus, unsaid_words

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


def test_words_are_whole_and_in_no_caption(text: TextConditioner) -> None:
    assert unsaid_words(text, SAID) == ["hound", "ship"]


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
    with pytest.raises(DataError, match="captions have every word"):
        make_thesaurus(text, ["a hound on a ship, a dog on a boat, flat, noto, white background"], ROWS, SPEC, 1, tmp_path)
