"""`CLIPTextEncoder` and its tokenizer against transformers', on tiny random nets and the real vocabulary."""

from __future__ import annotations

import gzip
import json
from importlib import resources
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from undiffuse.checkpoints.keys.clip import from_huggingface
from undiffuse.core.random import normal
from undiffuse.networks.text.bpe import END, MERGES, START, WORD_END, byte_letters, clip_tokenizer, encode_clip
from undiffuse.networks.text.clip import CLIPTextEncoder

SIZES = {"width": 32, "layers": 3, "heads": 4}
TEXTS = ["a fox", "", "a photo of (an astronaut) riding a horse on mars, 4k!!", "word " * 100]


def oracle(activation: str, projection: int | None) -> CLIPTextModel | CLIPTextModelWithProjection:
    """Their net with random numbers in every tensor."""
    kind = CLIPTextModel if projection is None else CLIPTextModelWithProjection
    sizes = {"hidden_size": 32, "intermediate_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4}
    marks = {"bos_token_id": 49406, "eos_token_id": 49407, "pad_token_id": 1}
    config = CLIPTextConfig(**sizes, **marks, hidden_act=activation, projection_dim=projection or 512)
    net = kind(config).eval()
    with torch.no_grad():
        for name, weight in net.named_parameters():
            weight.copy_(normal(weight.shape, "clip", name) * 0.2 + (1.0 if "norm" in name and "weight" in name else 0.0))
    return net


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.abs().max())


@pytest.mark.parametrize(("activation", "projection"), [("quick_gelu", None), ("gelu", 24)])
@torch.no_grad()
def test_states_and_the_pooled_vector_equal_the_oracle(activation: str, projection: int | None) -> None:
    theirs = oracle(activation, projection)
    ours = CLIPTextEncoder(**SIZES, activation=activation, projection=projection).eval()
    ours.load_state_dict(from_huggingface(theirs.state_dict()))
    ids = encode_clip(clip_tokenizer(), TEXTS).ids
    expected = theirs(ids, output_hidden_states=True)

    last = ours(ids)
    assert relative_error(last.tokens, expected.last_hidden_state) <= 1e-5
    assert relative_error(last.pooled, expected.pooler_output if projection is None else expected.text_embeds) <= 1e-5
    for skip in (0, 1, 2, 3):
        assert relative_error(ours(ids, skip=skip, normed=False).tokens, expected.hidden_states[-1 - skip]) <= 1e-5
    embedded = ours(ids, words=ours.words(ids))
    assert torch.equal(embedded.tokens, last.tokens)


@pytest.fixture(scope="module")
def their_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> CLIPTokenizer:
    """Theirs with the same vocabulary."""
    folder = tmp_path_factory.mktemp("clip")
    packed = resources.files("undiffuse").joinpath("vocabularies", "clip_bpe.txt.gz").read_bytes()
    merges = gzip.decompress(packed).decode("utf-8").split("\n")[1 : MERGES + 1]
    letters = byte_letters()
    pieces = [*letters, *(x + WORD_END for x in letters), *("".join(line.split()) for line in merges), START, END]
    Path(folder / "vocab.json").write_text(json.dumps({piece: i for i, piece in enumerate(pieces)}))
    Path(folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]))
    return CLIPTokenizer.from_pretrained(folder)


@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=60).filter(lambda text: "<|" not in text))
def test_any_text_gets_the_ids_of_the_oracle(their_tokenizer: CLIPTokenizer, text: str) -> None:
    expected = their_tokenizer(text, padding="max_length", truncation=True, max_length=77).input_ids
    assert encode_clip(clip_tokenizer(), [text]).ids[0].tolist() == expected


@pytest.mark.parametrize("text", TEXTS)
def test_prompts_get_the_ids_of_the_oracle(text: str, their_tokenizer: CLIPTokenizer) -> None:
    expected = their_tokenizer(text, padding="max_length", truncation=True, max_length=77).input_ids
    found = encode_clip(clip_tokenizer(), [text])
    assert found.ids[0].tolist() == expected and found.truncated == [text.startswith("word")]


def test_openclip_pads_with_zeros() -> None:
    ids = encode_clip(clip_tokenizer(), ["a fox"], pad=0).ids[0].tolist()
    assert ids[0] == 49406 and ids[3] == 49407 and set(ids[4:]) == {0}
