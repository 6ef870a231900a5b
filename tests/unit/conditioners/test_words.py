"""What tokens stand for: every part can tell, in the places that its tokens have."""

from __future__ import annotations

import pytest
import torch
from tokenizers import Tokenizer

from undiffuse.conditioners.base import ConditionerPart, Word
from undiffuse.conditioners.boxes import BoxesConditioner
from undiffuse.conditioners.clip import CLIPConditioner, CLIPEncoderSpec, CLIPSpec
from undiffuse.conditioners.combined import Conditioner
from undiffuse.conditioners.labels import LabelConditioner
from undiffuse.conditioners.lookalike import LookalikeConditioner
from undiffuse.conditioners.text import TextConditioner
from undiffuse.networks.text.bert import BertEncoder
from undiffuse.networks.text.bpe import clip_tokenizer, encode_clip
from undiffuse.networks.text.learned import LearnedWord


@pytest.fixture
def text(tokenizer: Tokenizer, encoder: BertEncoder) -> TextConditioner:
    return TextConditioner(tokenizer, encoder, length=9)


@pytest.fixture(scope="module")
def clip() -> CLIPConditioner:
    return CLIPSpec(encoders=(CLIPEncoderSpec(width=8, layers=1, heads=2, pad=0),)).build(None)


def test_pieces_of_a_word_belong_together(text: TextConditioner) -> None:
    assert text.words({"caption": "A fox, cat"}) == [
        Word("A", (1,)),
        Word("fox", (2,)),
        Word(",", (3,)),
        Word("cat", (4, 5, 6)),
    ]
    assert text.words({}) == text.words({"caption": ""}) == []


def test_what_goes_unread_is_no_word(text: TextConditioner) -> None:
    assert text.truncated(["rocket fox boat boat"]) == [True]
    words = text.words({"caption": "rocket fox boat boat"})
    assert words == [Word("rocket", (1,)), Word("fox", (2,)), Word("boat", (3, 4, 5, 6)), Word("b", (7,))]


def test_words_of_clip_lie_where_their_ids_are(clip: CLIPConditioner) -> None:
    caption = "a photorealistically drawn größte fox!"
    words = clip.words({"caption": caption, "grammar": "plain"})
    assert [word.text for word in words] == ["a", "photorealistically", "drawn", "größte", "fox", "!"]
    ids = encode_clip(clip_tokenizer(), [caption]).ids[0]
    for text, places in words:
        alone = clip_tokenizer().encode(text, add_special_tokens=False).ids
        assert ids[list(places)].tolist() == alone


def test_stress_is_no_word_and_chunks_go_on_counting(clip: CLIPConditioner) -> None:
    words = clip.words({"caption": "a (red:1.3) fox BREAK boat"})
    assert words == [Word("a", (1,)), Word("red", (2,)), Word("fox", (3,)), Word("boat", (78,))]


def test_learned_words_go_by_their_names() -> None:
    part = CLIPSpec(encoders=(CLIPEncoderSpec(width=8, layers=1, heads=2),)).build(None)
    part.learn(LearnedWord("mycat", (torch.zeros(2, 8),)))
    assert part.words({"caption": "my mycat MyCat"}) == [Word("my", (1,)), Word("mycat", (2, 3)), Word("mycat", (4, 5))]


def test_boxes_labels_and_pictures_name_their_tokens() -> None:
    boxes = BoxesConditioner(("sun", "tree"), 8, 3)
    (row,) = boxes.read([{"boxes": [(0, 0, 0.2, 0.2, "sun"), (0, 0, 1, 1, "tree")]}], None)  # type: ignore[arg-type]
    assert boxes.words(row) == [Word("tree (box)", (1,)), Word("sun (box)", (2,))]  # the largest first
    assert boxes.words({}) == []
    assert LabelConditioner(("fox",), 8, route="tokens").words({"label": "fox"}) == [Word("fox", (0,))]
    assert LabelConditioner(("fox",), 8).words({"label": "fox"}) == []
    assert LookalikeConditioner(4, 8, 2).words({"like": torch.ones(4)}) == [Word("the picture to resemble", (0, 1))]


def test_places_of_later_parts_come_behind(text: TextConditioner) -> None:
    parts: list[ConditionerPart] = [LabelConditioner(("fox",), 4), text, LabelConditioner(("fox",), 16, route="tokens")]
    words = Conditioner(parts).words({"label": "fox", "caption": "fox"})
    assert words == [Word("fox", (1,)), Word("fox", (9,))]
