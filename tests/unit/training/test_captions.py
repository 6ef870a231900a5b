"""Cached captions are what the text conditioner says, up to float16."""

from __future__ import annotations

import pytest
import torch

from undiffuse.conditioners.text import TextConditioner
from undiffuse.model.latent_diffusion import LatentDiffusion
from undiffuse.training.captions import cache_captions

CAPTIONS = ["a fox", "", "a very long caption about a boat", "a fox", "cab"]


@pytest.fixture
def text(tiny_model: LatentDiffusion) -> TextConditioner:
    return next(part for part in tiny_model.conditioner.parts if isinstance(part, TextConditioner))


def test_the_cache_says_what_the_conditioner_says(text: TextConditioner) -> None:
    found, wanted = cache_captions(text, CAPTIONS)(CAPTIONS), text([{"caption": caption} for caption in CAPTIONS])

    assert found.tokens is not None and wanted.tokens is not None and found.vector is not None and wanted.vector is not None
    assert found.token_mask is not None and wanted.token_mask is not None
    assert torch.equal(found.token_mask, wanted.token_mask)
    assert torch.allclose(found.tokens, wanted.tokens, atol=2e-3)
    assert torch.allclose(found.vector, wanted.vector, atol=2e-3)


def test_each_caption_is_kept_once_and_without_padding(text: TextConditioner) -> None:
    told: list[tuple[int, int, str]] = []
    cache = cache_captions(text, CAPTIONS * 3, lambda *news: told.append(news))

    assert len(cache.starts) == 4
    assert sum(count for _, count in cache.starts.values()) == len(cache.states)
    assert told[-1] == (4, 4, "captions")
