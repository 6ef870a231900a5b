"""Words that are read as others: which, in what form, and in whose place."""

from __future__ import annotations

import pytest
import torch
from tokenizers import Tokenizer

from undiffuse.conditioners.text import TextConditioner
from undiffuse.conditioners.thesaurus import Thesaurus
from undiffuse.networks.text.bert import BertEncoder

THESAURUS = Thesaurus({"automobile": "car", "hound": "dog", "physician": "health worker", "loaf": "bread", "cod": "fish"})


@pytest.mark.parametrize(
    ("said", "read"),
    [
        ("hound", "dog"),
        ("a Hound, flat", "a dog, flat"),
        ("an automobile to the left of a hound", "a car to the left of a dog"),
        ("A loaf on a table", "bread on a table"),
        ("two hounds and three physicians, 3d render", "two dogs and three health workers, 3d render"),
        ("loaves, cods", "bread, fish"),
        ("HOUND:hound(hound)", "dog:dog(dog)"),
        ("a hound-dog, hound's, hounded, greyhound, hound2, a fox", None),
        ("", None),
    ],
)
def test_words_are_read_as_others(said: str, read: str | None) -> None:
    assert THESAURUS.read(said) == (said if read is None else read)


def test_it_tells_which(tokenizer: Tokenizer, encoder: BertEncoder) -> None:
    part = TextConditioner(tokenizer, encoder, length=8)
    assert part.read_as("two hounds") == {}
    part.thesaurus = THESAURUS
    assert part.read_as("two hounds, a hound, a fox") == {"hounds": "dogs", "hound": "dog"}


def test_what_was_said_is_read_so(tokenizer: Tokenizer, encoder: BertEncoder) -> None:
    part = TextConditioner(tokenizer, encoder, length=8)
    apart = part([{"caption": "a hound"}]).slots()
    part.thesaurus = Thesaurus({"hound": "fox", "ship": "boat " * 9})
    part.forget()
    hound, fox = (part([{"caption": caption}]).slots() for caption in ("a hound", "a fox"))
    assert all(torch.equal(hound[name], value) for name, value in fox.items())
    assert not torch.equal(hound["tokens"], apart["tokens"])
    assert [word.text for word in part.words({"caption": "a hound"})] == ["a", "fox"]
    assert part.truncated(["a hound", "a ship"]) == [False, True]


def test_what_a_model_learns_is_read_no_longer_as_something_else() -> None:
    assert THESAURUS.without({"hounds", "automobile", "fox"}).meant == {
        "physician": "health worker", "loaf": "bread", "cod": "fish"
    }  # fmt: skip
