"""Learned words against diffusers' `load_textual_inversion`, with the tokenizer and a text encoder of transformers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers.loaders import TextualInversionLoaderMixin
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from undiffuse.checkpoints.embeddings import read_words
from undiffuse.core.random import normal
from undiffuse.networks.text.learned import NewWords, split_at

LETTERS = "abcdefghijklmnopqrstuvwxyz<>,"
PIECES = ["<|startoftext|>", "<|endoftext|>", *LETTERS, *(f"{letter}</w>" for letter in LETTERS), "fo", "fox</w>"]
PROMPTS = ["a <cat> in a boat", "<cat>", "a fox, <cat>,<cat> and a cat", "a fox"]


START, END = 0, 1


def make_tokenizer() -> CLIPTokenizer:
    return CLIPTokenizer(vocab={piece: i for i, piece in enumerate(PIECES)}, merges=[("f", "o"), ("fo", "x</w>")])


class Pipeline(TextualInversionLoaderMixin):
    """As much of a pipeline as the loader asks for."""

    hf_device_map = None

    def __init__(self) -> None:
        self.tokenizer = make_tokenizer()
        sizes = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
        self.text_encoder = CLIPTextModel(CLIPTextConfig(vocab_size=len(PIECES), bos_token_id=START, eos_token_id=END, **sizes))
        self.components = {"tokenizer": self.tokenizer, "text_encoder": self.text_encoder}

    @torch.no_grad()
    def vectors(self, prompt: str) -> Tensor:
        """What the text encoder starts from for a prompt."""
        ids = self.tokenizer(self.maybe_convert_prompt(prompt, self.tokenizer), return_tensors="pt").input_ids
        return self.text_encoder.get_input_embeddings()(ids)


@torch.no_grad()
@pytest.mark.parametrize("count", [1, 3])
def test_prompts_with_a_learned_word_equal_the_oracle(count: int, tmp_path: Path) -> None:
    save_file({"<cat>": normal((count, 8), "inversion")}, tmp_path / "a.safetensors")
    pipeline, tokenizer = Pipeline(), make_tokenizer()
    table = pipeline.text_encoder.get_input_embeddings().weight.clone()
    (word,) = read_words(tmp_path / "a.safetensors")
    words = NewWords(nn.Embedding.from_pretrained(table))
    words.learn(word.name, word.vectors[0])
    pipeline.load_textual_inversion(str(tmp_path / "a.safetensors"))
    for prompt in PROMPTS:
        ids = [START]
        for index, piece in enumerate(split_at(prompt, words.ids)):
            ids += words.ids[piece] if index % 2 else tokenizer(piece, add_special_tokens=False).input_ids
        assert torch.equal(words.embed(torch.tensor([[*ids, END]])), pipeline.vectors(prompt))
