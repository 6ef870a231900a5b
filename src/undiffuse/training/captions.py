"""Captions encoded once: states of the frozen text encoder for every caption of a latent cache."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from undiffuse.conditioners.text import TextConditioner
from undiffuse.core.conditioning import Conditioning
from undiffuse.data.records import Progress

BATCH = 128


@dataclass(frozen=True)
class CaptionCache:
    """Token states in float16, without their padding, for captions by their text."""

    states: Tensor  # (T, D) all tokens of all captions, one after the other
    starts: dict[str, tuple[int, int]]  # caption -> first token, number of tokens
    length: int
    pooled: bool

    def __call__(self, captions: Iterable[str]) -> Conditioning:
        """The conditioning of these captions, as the text conditioner gives it up to float16 rounding."""
        spans = [self.starts[caption] for caption in captions]
        tokens = torch.zeros(len(spans), self.length, self.states.shape[1])
        mask = torch.zeros(len(spans), self.length, dtype=torch.bool)
        for row, (start, count) in enumerate(spans):
            tokens[row, :count] = self.states[start : start + count]
            mask[row, :count] = True
        vector = tokens.sum(1) / mask.sum(1, keepdim=True) if self.pooled else None
        return Conditioning(tokens=tokens, token_mask=mask, vector=vector)


def cache_captions(text: TextConditioner, captions: Iterable[str], progress: Progress | None = None) -> CaptionCache:
    """Encode each different caption once, those of similar length together.

    Args:
        text: a text conditioner with a frozen encoder.
        captions: repeated ones cost nothing.
        progress: told (captions done, captions in all, what) after every batch.
    """
    unique = sorted(set(captions), key=lambda caption: (len(caption), caption))
    states, starts, place = [], {}, 0
    for first in range(0, len(unique), BATCH):
        some = unique[first : first + BATCH]
        cond = text.encode_many(some, batch=BATCH)
        assert cond.tokens is not None and cond.token_mask is not None
        for row, caption in enumerate(some):
            count = int(cond.token_mask[row].sum())
            states.append(cond.tokens[row, :count].half().cpu())
            starts[caption] = (place, count)
            place += count
        if progress is not None:
            progress(first + len(some), len(unique), "captions")
    return CaptionCache(torch.cat(states), starts, text.length, text.pooled)
