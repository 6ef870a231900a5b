"""Learned words against diffusers' `load_textual_inversion`, with the tokenizer and text encoders of transformers."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import pytest
import torch
from diffusers.loaders import TextualInversionLoaderMixin
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from undiffuse.checkpoints.embeddings import read_words
from undiffuse.checkpoints.keys.clip import from_huggingface
from undiffuse.conditioners.clip import CLIPConditioner, CLIPEncoderSpec
from undiffuse.core.errors import ShapeMismatch
from undiffuse.core.random import normal
from undiffuse.networks.text.bpe import clip_tokenizer

PROMPTS = ["a <cat> in a boat", "<cat>", "a fox, <cat>,<cat> and a cat", "a fox", "<cat> " * 80]
MARKS = {"bos_token_id": 49406, "eos_token_id": 49407, "pad_token_id": 1}


def make_tokenizer() -> CLIPTokenizer:
    """Theirs with our vocabulary; it learns words, so each pipeline has its own."""
    model = _vocabulary()
    return CLIPTokenizer(vocab=dict(model["vocab"]), merges=[tuple(pair) for pair in model["merges"]])


@cache
def _vocabulary() -> dict:
    return json.loads(clip_tokenizer().to_str())["model"]


class Pipeline(TextualInversionLoaderMixin):
    """As much of a pipeline as the loader asks for."""

    hf_device_map = None

    def __init__(self, width: int, projection: int | None = None) -> None:
        sizes = {"hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": 2, "num_attention_heads": 2}
        kind = CLIPTextModel if projection is None else CLIPTextModelWithProjection
        self.text_encoder = kind(CLIPTextConfig(**sizes, **MARKS, projection_dim=projection or width)).eval()
        with torch.no_grad():
            for name, weight in self.text_encoder.named_parameters():
                weight.add_(normal(weight.shape, "inversion", name) * 0.2)
        self.tokenizer = make_tokenizer()
        self.components = {"tokenizer": self.tokenizer, "text_encoder": self.text_encoder}

    def ids(self, prompt: str) -> Tensor:
        told = self.maybe_convert_prompt(prompt, self.tokenizer)
        return self.tokenizer(told, padding="max_length", truncation=True, max_length=77, return_tensors="pt").input_ids


def ours_like(*pipelines: Pipeline, skip: int = 0) -> CLIPConditioner:
    specs = []
    for pipeline in pipelines:
        config = pipeline.text_encoder.config
        projection = config.projection_dim if isinstance(pipeline.text_encoder, CLIPTextModelWithProjection) else None
        spec = {
            "width": config.hidden_size,
            "layers": 2,
            "heads": 2,
            "projection": projection,
            "pooled": projection is not None,
        }
        specs.append(CLIPEncoderSpec(**spec, skip=skip, normed=not skip))
    part = CLIPConditioner(specs)
    for encoder, pipeline in zip(part.encoders, pipelines, strict=True):
        encoder.load_state_dict(from_huggingface(pipeline.text_encoder.state_dict()))
    return part


def far(ours: Tensor | None, theirs: Tensor) -> float:
    assert ours is not None
    return float((ours - theirs).abs().max() / theirs.abs().max())


@torch.no_grad()
@pytest.mark.parametrize("count", [1, 3])
def test_prompts_with_a_learned_word_equal_the_oracle(count: int, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"<cat>": normal((count, 8), "inversion")}, path)
    pipeline = Pipeline(8)
    part = ours_like(pipeline)
    before = part([{"caption": prompt, "grammar": "plain"} for prompt in PROMPTS]).tokens
    part.learn(read_words(path)[0])
    pipeline.load_textual_inversion(str(path))
    ours = part([{"caption": prompt, "grammar": "plain"} for prompt in PROMPTS]).tokens
    assert ours is not None and before is not None
    for number, prompt in enumerate(PROMPTS):
        expected = pipeline.text_encoder(pipeline.ids(prompt)).last_hidden_state[0]
        assert far(ours[number], expected) <= 1e-5
        assert torch.equal(ours[number], before[number]) == ("<cat>" not in prompt)
    assert not any("new_words" in name for name in part.state_dict())


@torch.no_grad()
def test_both_encoders_of_xl_get_their_vectors(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"clip_l": normal((2, 8), "inversion"), "clip_g": normal((2, 12), "inversion")}, path)
    first, second = Pipeline(8), Pipeline(12, projection=6)
    part = ours_like(first, second, skip=1)
    part.learn(read_words(path, "<cat>")[0])
    for pipeline, name in ((first, "clip_l"), (second, "clip_g")):
        pipeline.load_textual_inversion(load_file(path)[name], token="<cat>")
    for prompt in PROMPTS:
        cond = part.encode(prompt, "plain")
        states = [p.text_encoder(p.ids(prompt), output_hidden_states=True) for p in (first, second)]
        assert far(cond.tokens, torch.cat([state.hidden_states[-2] for state in states], dim=2)) <= 1e-5
        assert far(cond.vector, states[1].text_embeds) <= 1e-5


def test_a_word_for_one_encoder_is_refused_where_there_are_two(tmp_path: Path) -> None:
    save_file({"emb_params": normal((2, 8), "inversion")}, tmp_path / "a.safetensors")
    part = CLIPConditioner([CLIPEncoderSpec(width=8, layers=1, heads=2), CLIPEncoderSpec(width=12, layers=1, heads=2)])
    with pytest.raises(ShapeMismatch, match="read 8 and 12"):
        part.learn(read_words(tmp_path / "a.safetensors")[0])
    assert [words.ids for words in part.new_words] == [{}, {}]
