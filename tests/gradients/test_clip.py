"""CLIP's layers against numerical gradients, in float64."""

from __future__ import annotations

import pytest
import torch

from undiffuse.core.random import normal
from undiffuse.networks.text.clip import CLIPLayer, CLIPTextEncoder


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_a_layer(activation: str) -> None:
    layer = CLIPLayer(8, 2, 12, activation).double()
    x = normal((1, 3, 8), "clip", activation).double().requires_grad_()
    assert torch.autograd.gradcheck(layer, (x,))


def test_learned_words_get_gradients_through_the_whole_encoder() -> None:
    encoder = CLIPTextEncoder(vocabulary=12, width=8, layers=2, heads=2, positions=4, projection=5).double()
    ids = torch.tensor([[1, 2, 11, 11]])
    words = normal((1, 4, 8), "words").double().requires_grad_()
    assert torch.autograd.gradcheck(lambda words: encoder(ids, skip=1, words=words), (words,))


def test_a_token_does_not_see_those_behind_it() -> None:
    layer = CLIPLayer(8, 2, 12, "gelu")
    x = normal((1, 4, 8), "clip", "causal").requires_grad_()
    layer(x)[0, 1].sum().backward()
    assert x.grad is not None and x.grad[0, :2].abs().min() > 0 and x.grad[0, 2:].abs().max() == 0
