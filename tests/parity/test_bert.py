"""`BertEncoder` against transformers' `BertModel` through our own key map, on tiny random nets."""

from __future__ import annotations

import pytest
import torch
from transformers import BertConfig, BertModel

from undiffuse.core.errors import MissingKeys
from undiffuse.core.random import torch_stream
from undiffuse.networks.text.bert import BertEncoder, bert_from_huggingface


@pytest.fixture(scope="module")
def oracle() -> BertModel:
    config = BertConfig(
        vocab_size=50,
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=16,
        layer_norm_eps=1e-12,
        hidden_act="gelu",
    )
    model = BertModel(config).eval()
    generator = torch_stream("bert", 0)
    with torch.no_grad():
        for parameter in model.parameters():  # biases and norms start at 0 and 1, which would hide a wrong map
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return model


@pytest.fixture(scope="module")
def encoder(oracle: BertModel) -> BertEncoder:
    ours = BertEncoder(vocabulary=50, width=32, layers=3, heads=4, hidden=48, positions=16)
    ours.load_state_dict(bert_from_huggingface(oracle.state_dict()))
    return ours.eval()


def ids_of(batch: int, length: int) -> torch.Tensor:
    return torch.randint(50, (batch, length), generator=torch_stream("ids", batch, length))


def test_states_equal_the_oracle(oracle: BertModel, encoder: BertEncoder) -> None:
    ids = ids_of(3, 16)
    mask = torch.ones(3, 16, dtype=torch.bool)
    with torch.no_grad():
        torch.testing.assert_close(encoder(ids, mask), oracle(ids, mask).last_hidden_state, atol=1e-5, rtol=0)


def test_masked_states_equal_the_oracle(oracle: BertModel, encoder: BertEncoder) -> None:
    ids = ids_of(3, 10)
    mask = torch.arange(10) < torch.tensor([[10], [6], [2]])
    with torch.no_grad():
        ours, theirs = encoder(ids, mask), oracle(ids, mask.long()).last_hidden_state
    torch.testing.assert_close(ours[mask], theirs[mask], atol=1e-5, rtol=0)


def test_missing_and_unknown_tensors_are_named(oracle: BertModel) -> None:
    state = dict(oracle.state_dict())
    del state["encoder.layer.1.output.dense.bias"]
    state["cls.predictions.bias"] = torch.zeros(50)
    with pytest.raises(MissingKeys, match=r"missing: encoder\.layer\.1\.output\.dense\.bias; unknown: cls\.predictions\.bias"):
        bert_from_huggingface(state)


def test_a_state_dict_of_another_kind_is_refused() -> None:
    with pytest.raises(MissingKeys, match=r"unknown: weight"):
        bert_from_huggingface({"weight": torch.zeros(1)})
