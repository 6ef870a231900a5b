"""A tiny text encoder with its tokenizer."""

from __future__ import annotations

import string

import pytest
from tokenizers import Tokenizer

from undiffuse.networks.text.bert import BertEncoder
from undiffuse.networks.text.wordpiece import MARKS, build_wordpiece


@pytest.fixture
def tokenizer() -> Tokenizer:
    letters = string.ascii_lowercase
    return build_wordpiece([*MARKS, *letters, *(f"##{letter}" for letter in letters), "fox", "rocket"])


@pytest.fixture
def encoder(tokenizer: Tokenizer) -> BertEncoder:
    return BertEncoder(vocabulary=tokenizer.get_vocab_size(), width=16, layers=2, heads=4, hidden=24, positions=12)
