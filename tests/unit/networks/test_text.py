"""WordPiece and the BERT encoder: what becomes of a text, and what padding must not change."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer

from undiffuse.core.errors import CheckpointError, SpecError, UnknownFormat, UsageError
from undiffuse.networks.text.bert import BertEncoder, keep_words
from undiffuse.networks.text.wordpiece import (
    MARKS,
    build_wordpiece,
    encode,
    load_wordpiece,
    prune_vocabulary,
    used_ids,
    vocabulary,
)

LETTERS = "abcdefghijklmnopqrstuvwxyz,[]é"
PIECES = [*MARKS, *LETTERS, *(f"##{letter}" for letter in LETTERS), "fox", "fox##", "rocket", "##es", "狐"]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return build_wordpiece(PIECES)


@pytest.fixture(scope="module")
def encoder() -> BertEncoder:
    return BertEncoder(vocabulary=len(PIECES), width=16, layers=2, heads=4, hidden=24, positions=12).eval()


def pieces_of(tokenizer: Tokenizer, text: str) -> list[str]:
    return tokenizer.encode(text).tokens


def test_a_text_is_lowered_split_and_put_between_marks(tokenizer: Tokenizer) -> None:
    assert pieces_of(tokenizer, "Foxés, a 狐") == ["[CLS]", "fox", "##es", ",", "a", "狐", "[SEP]"]


def test_rows_are_padded_to_the_length(tokenizer: Tokenizer) -> None:
    ids, mask, truncated = encode(tokenizer, ["fox", ""], 5)
    assert ids.tolist() == [[2, PIECES.index("fox"), 3, 0, 0], [2, 3, 0, 0, 0]]
    assert mask.tolist() == [[True, True, True, False, False], [True, True, False, False, False]]
    assert truncated == [False, False]


def test_a_long_text_is_cut_and_says_so(tokenizer: Tokenizer) -> None:
    ids, mask, truncated = encode(tokenizer, ["fox fox fox", "fox fox"], 4)
    fox = PIECES.index("fox")
    assert ids.tolist() == [[2, fox, fox, 3]] * 2
    assert mask.all()
    assert truncated == [True, False]


def test_no_texts_make_an_empty_batch(tokenizer: Tokenizer) -> None:
    assert encode(tokenizer, [], 4).ids.shape == (0, 4)


def test_a_typed_mark_is_plain_text(tokenizer: Tokenizer) -> None:
    assert pieces_of(tokenizer, "[SEP]") == ["[CLS]", "[", "s", "##e", "##p", "]", "[SEP]"]


def test_a_length_without_room_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(UsageError, match="length 2; 3 or more is allowed"):
        encode(tokenizer, ["fox"], 2)


def test_a_vocabulary_without_marks_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"lacks \[UNK\], \[CLS\], \[SEP\]"):
        build_wordpiece(["[PAD]", "fox"])


def test_a_vocabulary_with_a_piece_twice_is_refused() -> None:
    with pytest.raises(CheckpointError, match="6 pieces, 5 different ones"):
        build_wordpiece([*MARKS, "fox", "fox"])


@pytest.mark.parametrize("name", ["vocab.txt", "tokenizer.json"])
def test_both_files_give_the_same_tokenizer(tokenizer: Tokenizer, tmp_path: Path, name: str) -> None:
    if name == "vocab.txt":
        (tmp_path / name).write_text("\n".join(PIECES) + "\n", encoding="utf-8")
    else:
        tokenizer.save(str(tmp_path / name))
    for path in (tmp_path, tmp_path / name):
        assert load_wordpiece(path).to_str() == tokenizer.to_str()


def test_no_tokenizer_is_reported(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no tokenizer at"):
        load_wordpiece(tmp_path)


@pytest.mark.parametrize(
    "content",
    ["not json", "[]", json.dumps({"model": {"type": "BPE", "vocab": {}}, "normalizer": None})],
)
def test_another_tokenizer_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(UnknownFormat, match="no uncased WordPiece tokenizer"):
        load_wordpiece(tmp_path)


def test_a_cased_tokenizer_is_refused(tokenizer: Tokenizer, tmp_path: Path) -> None:
    raw = json.loads(tokenizer.to_str())
    raw["normalizer"]["lowercase"] = False
    (tmp_path / "tokenizer.json").write_text(json.dumps(raw))
    with pytest.raises(UnknownFormat):
        load_wordpiece(tmp_path)


def test_pruning_keeps_order_marks_and_single_characters(tokenizer: Tokenizer) -> None:
    pruned, kept = prune_vocabulary(tokenizer, used_ids(tokenizer, ["fox"]))
    assert kept == sorted(kept)
    assert vocabulary(pruned) == [PIECES[i] for i in kept]
    assert set(PIECES) - set(vocabulary(pruned)) == {"fox##", "rocket", "##es", "狐"}


def test_a_word_that_lost_its_piece_is_spelled(tokenizer: Tokenizer) -> None:
    pruned, _ = prune_vocabulary(tokenizer, used_ids(tokenizer, ["fox"]))
    assert pieces_of(pruned, "fox rocket")[1:-1] == ["fox", "r", "##o", "##c", "##k", "##e", "##t"]
    assert pieces_of(pruned, "狐")[1:-1] == ["[UNK]"]


def test_kept_words_have_the_same_states(tokenizer: Tokenizer, encoder: BertEncoder) -> None:
    texts = ["fox rocket", "foxes, a"]
    pruned, kept = prune_vocabulary(tokenizer, used_ids(tokenizer, texts))
    small = keep_words(encoder, kept)
    before, after = encode(tokenizer, texts, 6), encode(pruned, texts, 6)
    assert small.words.num_embeddings == len(kept) < encoder.words.num_embeddings
    assert torch.equal(small(after.ids, after.mask), encoder(before.ids, before.mask))


@torch.no_grad()
def test_padding_does_not_change_states(tokenizer: Tokenizer, encoder: BertEncoder) -> None:
    short, long = (encode(tokenizer, ["a fox, a rocket"], length) for length in (7, 12))
    states, padded = encoder(short.ids, short.mask), encoder(long.ids, long.mask)
    torch.testing.assert_close(padded[:, :7], states, atol=1e-6, rtol=0)


@torch.no_grad()
def test_what_stands_under_the_mask_does_not_matter(encoder: BertEncoder) -> None:
    mask = torch.tensor([[True, True, False, False]])
    one, other = (encoder(torch.tensor([[5, 6, *rest]]), mask)[:, :2] for rest in ((7, 8), (9, 0)))
    assert torch.equal(one, other)


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(SpecError, match="width 10 with 4 heads"):
        BertEncoder(vocabulary=5, width=10, layers=1, heads=4, hidden=8, positions=4)
