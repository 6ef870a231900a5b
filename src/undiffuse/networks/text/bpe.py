"""CLIP's tokenizer: byte-pair encoding of lower-case text (Sennrich et al. 2016; Radford et al. 2021).

The ids are those of OpenAI's tokenizer: 256 bytes, the same ending a word, 48,894 merges and two marks.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import NamedTuple

import torch
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers
from torch import Tensor

from undiffuse.core.errors import UsageError, explain
from undiffuse.networks.text.learned import split_at

START, END = "<|startoftext|>", "<|endoftext|>"
WORD_END = "</w>"
MERGES = 49152 - 256 - 2
LENGTH = 77
EMPTY: Mapping[str, Sequence[int]] = MappingProxyType({})
PRINTABLE = (*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1))
PIECES = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


class Tokens(NamedTuple):
    """Token ids (B, N), and for each text whether its end did not fit."""

    ids: Tensor
    truncated: list[bool]


@cache
def clip_tokenizer() -> Tokenizer:
    """The tokenizer of the vocabulary that comes with this package; without marks, which `encode_clip` adds."""
    packed = resources.files("undiffuse").joinpath("vocabularies", "clip_bpe.txt.gz").read_bytes()
    lines = gzip.decompress(packed).decode("utf-8").split("\n")[1 : MERGES + 1]  # the first line tells the version
    return build_clip_tokenizer([tuple(line.split(" ")) for line in lines])  # type: ignore[misc]


def build_clip_tokenizer(merges: Sequence[tuple[str, str]]) -> Tokenizer:
    """A tokenizer of this make from pairs of pieces, the first merged first."""
    letters = byte_letters()
    pieces = [*letters, *(letter + WORD_END for letter in letters), *(a + b for a, b in merges), START, END]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.BPE(vocabulary, list(merges), unk_token=END, end_of_word_suffix=WORD_END))
    tokenizer.normalizer = normalizers.Sequence(  # type: ignore[assignment]
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(  # type: ignore[assignment]
        [
            pre_tokenizers.Split(Regex(PIECES), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return tokenizer


def byte_letters() -> list[str]:
    """A printable letter for each of the 256 bytes, in the order of their ids: printable bytes first, as themselves."""
    return [chr(byte) for byte in PRINTABLE] + [chr(256 + number) for number in range(256 - len(PRINTABLE))]


def _byte_order() -> list[int]:
    """The 256 bytes in the order of their ids."""
    return [*PRINTABLE, *(byte for byte in range(256) if byte not in PRINTABLE)]


def encode_clip(
    tokenizer: Tokenizer,
    texts: Sequence[str],
    pad: int | None = None,
    length: int = LENGTH,
    learned: Mapping[str, Sequence[int]] = EMPTY,
) -> Tokens:
    """Tokenize, mark, cut and pad every text to exactly `length` tokens.

    Args:
        tokenizer: from `clip_tokenizer`.
        texts: any text; marks written out in it are text like any other.
        pad: what stands behind the end: None the end token again (CLIP), 0 for OpenCLIP.
        length: tokens of a row, both marks included.
        learned: words with ids of their own.

    Raises:
        UsageError: when `length` leaves no room between the marks.
    """
    if length < 3:
        raise UsageError(explain(f"length {length}", "3 or more is allowed: a start, a token and an end"))
    found = [[token for unit in units(tokenizer, text, learned) for token in unit] for text in texts]
    ids = torch.stack([marked(tokenizer, pieces[: length - 2], pad, length) for pieces in found])
    return Tokens(ids, [len(pieces) > length - 2 for pieces in found])


def marked(tokenizer: Tokenizer, pieces: Sequence[int], pad: int | None, length: int) -> Tensor:
    """Token ids (length,) with a start and an end around them, padded; there must be room for both."""
    end = tokenizer.get_vocab_size() - 1
    row = torch.full((length,), end if pad is None else pad)
    row[: len(pieces) + 2] = torch.tensor([end - 1, *pieces, end])
    return row


def units(tokenizer: Tokenizer, text: str, learned: Mapping[str, Sequence[int]] = EMPTY) -> list[tuple[int, ...]]:
    """The ids of a text without marks, one by one; at learned words all ids of the word together."""
    found: list[tuple[int, ...]] = []
    for index, piece in enumerate(split_at(text, learned)):
        if index % 2:
            found.append(tuple(learned[piece]))
        else:
            found += [(token,) for token in tokenizer.encode(piece, add_special_tokens=False).ids]
    return found


def read_back(
    tokenizer: Tokenizer, row: Sequence[int], learned: Mapping[str, Sequence[int]] = EMPTY
) -> list[tuple[str, tuple[int, ...]]]:
    """The words of a row of marked ids, each with the places of its ids in the row; learned words are told by their names."""
    end = tokenizer.get_vocab_size() - 1
    names = {number: name for name, numbers in learned.items() for number in numbers}
    byte_of = {letter: byte for byte, letter in zip(_byte_order(), byte_letters(), strict=True)}
    found: list[tuple[str, tuple[int, ...]]] = []
    start, spelled = 1, ""
    for place, number in enumerate(row[1 : list(row).index(end)], 1):
        piece = tokenizer.id_to_token(number) or ""
        spelled += piece.removesuffix(WORD_END)
        following = row[place + 1]
        if number in names:
            whole = place - start + 1 == len(learned[names[number]])
        else:
            whole = piece.endswith(WORD_END) or following == end or following in names
        if whole:
            text = names.get(number) or bytes(byte_of[letter] for letter in spelled).decode(errors="replace")
            found.append((text, tuple(range(start, place + 1))))
            start, spelled = place + 1, ""
    return found
