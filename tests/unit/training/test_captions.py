"""Cached captions are what the text conditioner says, up to float16."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from undiffuse.conditioners.text import TextConditioner
from undiffuse.model.latent_diffusion import LatentDiffusion
from undiffuse.training.captions import FILE, cache_captions

CAPTIONS = ["a fox", "", "a very long caption about a boat", "a fox", "cab"]


@pytest.fixture
def text(tiny_model: LatentDiffusion) -> TextConditioner:
    return next(part for part in tiny_model.conditioner.parts if isinstance(part, TextConditioner))


def test_the_cache_says_what_the_conditioner_says(text: TextConditioner, tmp_path: Path) -> None:
    found, wanted = cache_captions(text, CAPTIONS, tmp_path)(CAPTIONS), text([{"caption": caption} for caption in CAPTIONS])

    assert found.tokens is not None and wanted.tokens is not None and found.vector is not None and wanted.vector is not None
    assert found.token_mask is not None and wanted.token_mask is not None
    assert torch.equal(found.token_mask, wanted.token_mask)
    assert torch.allclose(found.tokens, wanted.tokens, atol=2e-3)
    assert torch.allclose(found.vector, wanted.vector, atol=2e-3)


def test_each_caption_is_kept_once_and_without_padding(text: TextConditioner, tmp_path: Path) -> None:
    told: list[tuple[int, int, str]] = []
    cache = cache_captions(text, CAPTIONS * 3, tmp_path, lambda *news: told.append(news))

    assert len(cache.numbers) == 4
    assert int(cache.spans[:, 1].sum()) == len(cache.states)
    assert told[-1] == (4, 4, "captions")


def test_a_run_that_goes_on_finds_the_same_states(text: TextConditioner, tmp_path: Path) -> None:
    told: list[int] = []
    first = cache_captions(text, CAPTIONS, tmp_path)
    again = cache_captions(text, CAPTIONS, tmp_path, lambda done, total, what: told.append(done))

    assert told == []
    assert torch.equal(again.states, first.states) and again.numbers == first.numbers and torch.equal(again.spans, first.spans)


def test_other_captions_and_damaged_files_are_encoded_anew(text: TextConditioner, tmp_path: Path) -> None:
    cache_captions(text, CAPTIONS, tmp_path)
    assert set(cache_captions(text, ["a cat"], tmp_path).numbers) == {"a cat"}
    (tmp_path / FILE).write_bytes(b"half a file")
    assert set(cache_captions(text, ["a cat"], tmp_path).numbers) == {"a cat"}
