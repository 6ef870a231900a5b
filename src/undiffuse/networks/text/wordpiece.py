"""WordPiece: the uncased BERT tokenizer (Devlin et al. 2019), from texts to padded token ids.

A text is cleaned, lower-cased and stripped of accents, split at spaces and punctuation, and each word
becomes its longest known pieces; `##` marks a piece that continues a word. A row reads
`[CLS] pieces [SEP] [PAD] ...`. The vocabulary decides everything, so tokenizers are built from it
alone, and nothing that a text says can become one of these marks: a typed "[SEP]" is three plain pieces.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor

from undiffuse.core.errors import CheckpointError, UnknownFormat, UsageError, explain

PAD, UNKNOWN, START, END = "[PAD]", "[UNK]", "[CLS]", "[SEP]"
MARKS = (PAD, UNKNOWN, START, END)
CONTINUES = "##"
FILES = ("tokenizer.json", "vocab.txt")


class Tokens(NamedTuple):
    """A batch of tokenized texts."""

    ids: Tensor  # (B, N) int64
    mask: Tensor  # (B, N) bool, true where a token counts
    truncated: list[bool]  # B entries, true where the end of the text was cut off


def build_wordpiece(pieces: Sequence[str]) -> Tokenizer:
    """The uncased tokenizer of an ordered vocabulary; a piece's place is its id.

    Raises:
        CheckpointError: when the vocabulary lacks a mark or names a piece twice.
    """
    ids = {piece: i for i, piece in enumerate(pieces)}
    absent = [mark for mark in MARKS if mark not in ids]
    if absent:
        raise CheckpointError(explain(f"the vocabulary lacks {', '.join(absent)}", "a BERT vocabulary is expected"))
    if len(ids) < len(pieces):
        raise CheckpointError(explain(f"{len(pieces)} pieces, {len(ids)} different ones", "a vocabulary names each once"))
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token=UNKNOWN, continuing_subword_prefix=CONTINUES))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}", special_tokens=[(mark, ids[mark]) for mark in (START, END)]
    )
    return tokenizer


def load_wordpiece(path: Path) -> Tokenizer:
    """Read an uncased tokenizer from `tokenizer.json`, from `vocab.txt`, or from a folder that holds one of them.

    Raises:
        CheckpointError: when there is no such file, or its vocabulary is not a BERT vocabulary.
        UnknownFormat: when `tokenizer.json` describes another kind of tokenizer.
    """
    path = next((path / name for name in FILES if (path / name).is_file()), path)
    if not path.is_file():
        raise CheckpointError(explain(f"no tokenizer at {path}", f"a folder with {' or '.join(FILES)} is expected"))
    text = path.read_text(encoding="utf-8")
    return build_wordpiece(_pieces_of_json(text, path) if path.suffix == ".json" else text.removesuffix("\n").split("\n"))


def encode(tokenizer: Tokenizer, texts: Sequence[str], length: int) -> Tokens:
    """Tokenize, cut and pad every text to exactly `length` tokens, marks included.

    Raises:
        UsageError: when `length` leaves no room for a piece between the marks.
        CheckpointError: when the tokenizer is not a WordPiece one.
    """
    if length < 3:
        raise UsageError(explain(f"length {length}", "3 or more is allowed: [CLS], a piece and [SEP]"))
    pad, end = _id(tokenizer, PAD), _id(tokenizer, END)
    found = [tokenizer.encode(text).ids for text in texts]
    ids = torch.full((len(found), length), pad)
    for row, pieces in zip(ids, found, strict=True):
        kept = pieces if len(pieces) <= length else [*pieces[: length - 1], end]
        row[: len(kept)] = torch.tensor(kept)
    return Tokens(ids, ids != pad, [len(pieces) > length for pieces in found])


def vocabulary(tokenizer: Tokenizer) -> list[str]:
    """The pieces in the order of their ids."""
    ids = tokenizer.get_vocab()
    return sorted(ids, key=ids.__getitem__)


def used_ids(tokenizer: Tokenizer, texts: Iterable[str]) -> set[int]:
    """The ids of all pieces that occur in these texts, marks included."""
    return {i for text in texts for i in tokenizer.encode(text).ids}


def prune_vocabulary(tokenizer: Tokenizer, keep: Iterable[int]) -> tuple[Tokenizer, list[int]]:
    """A tokenizer with fewer pieces, and the old ids of those it kept, in their old order.

    Beside `keep`, the marks and every single ASCII and Latin-1 character stay, at the start of a word and
    inside it, so that a word that lost its pieces is spelled and does not become unknown.
    """
    chosen = set(keep)
    pieces = vocabulary(tokenizer)
    kept = [i for i, piece in enumerate(pieces) if i in chosen or is_basic(piece)]
    return build_wordpiece([pieces[i] for i in kept]), kept


def is_basic(piece: str) -> bool:
    """Whether pruning keeps this piece in any case: a mark, or one ASCII or Latin-1 character."""
    letter = piece.removeprefix(CONTINUES)
    return piece in MARKS or (len(letter) == 1 and ord(letter) < 256)


def _id(tokenizer: Tokenizer, mark: str) -> int:
    found = tokenizer.token_to_id(mark)
    if found is None:
        raise CheckpointError(explain(f"the tokenizer lacks {mark}", "a BERT vocabulary is expected"))
    return found


def _pieces_of_json(text: str, path: Path) -> list[str]:
    try:
        raw = json.loads(text)
        model, normalizer = raw["model"], raw["normalizer"]
        suits = model["type"] == "WordPiece" and normalizer["type"] == "BertNormalizer" and normalizer["lowercase"]
        pieces = sorted(model["vocab"], key=model["vocab"].__getitem__) if suits else []
    except (ValueError, KeyError, TypeError, AttributeError):
        pieces = []
    if not pieces:
        raise UnknownFormat(explain(f"{path} holds no uncased WordPiece tokenizer", "only this kind is read"))
    return pieces
