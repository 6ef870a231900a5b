"""`UNet` against diffusers' `UNet2DConditionModel`, on tiny random nets shaped like SD 1.x, SD 2.x and XL."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from undiffuse.checkpoints.keys.unet import unet_names
from undiffuse.core.conditioning import Conditioning
from undiffuse.core.random import normal
from undiffuse.networks.embeddings import sinusoid
from undiffuse.networks.unet import UNet

TOKENS, POOLED, NUMBERS = 24, 16, 8  # features of a token, of the pooled text, and of each of XL's six numbers
SD1: dict[str, Any] = {
    "ours": {"widths": (64, 128), "depths": (1, 0), "heads": 8},
    "theirs": {
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "attention_head_dim": 8,  # in this place their name for the number of heads
    },
}
SD2: dict[str, Any] = {
    "ours": {"widths": (64, 128), "depths": (1, 0), "head_width": 16, "linear_projection": True},
    "theirs": SD1["theirs"] | {"attention_head_dim": (4, 8), "use_linear_projection": True},
}
XL: dict[str, Any] = {
    "ours": SD2["ours"] | {"depths": (0, 2), "vector_width": POOLED + 6 * NUMBERS},
    "theirs": {
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "attention_head_dim": (4, 8),
        "use_linear_projection": True,
        "transformer_layers_per_block": (1, 2),
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": NUMBERS,
        "projection_class_embeddings_input_dim": POOLED + 6 * NUMBERS,
    },
}


def pair(case: dict[str, Any], channels: int = 4, **more: Any) -> tuple[UNet, UNet2DConditionModel]:
    """The oracle with random numbers in every tensor, and our net with the same."""
    oracle = UNet2DConditionModel(
        in_channels=channels, block_out_channels=(64, 128), cross_attention_dim=TOKENS, **case["theirs"]
    ).eval()
    with torch.no_grad():
        for name, weight in oracle.named_parameters():
            weight.add_(normal(weight.shape, "unet", name) * 0.1)
    ours = UNet(in_channels=4, out_channels=4, context_width=TOKENS, **case["ours"], **more).eval()
    state, names = oracle.state_dict(), unet_names(ours.state_dict(), {"blocks": 2, **case["ours"]}, "diffusers")
    assert sorted(names.values()) == sorted(state)
    ours.load_state_dict({name: state[theirs] for name, theirs in names.items()})
    return ours, oracle


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.abs().max())


X = normal((2, 4, 8, 12), "unet", "x")
T = torch.tensor([3.0, 981.0])
WORDS = normal((2, 5, TOKENS), "unet", "words")


@pytest.mark.parametrize("case", [SD1, SD2], ids=["SD 1.x", "SD 2.x"])
@torch.no_grad()
def test_unets_that_read_tokens_equal_the_oracle(case: dict[str, Any]) -> None:
    ours, oracle = pair(case)
    expected = oracle(X, T, WORDS).sample
    assert relative_error(ours(X, T, Conditioning(tokens=WORDS)), expected) <= 1e-5


@torch.no_grad()
def test_masked_tokens_equal_the_oracle() -> None:
    ours, oracle = pair(SD1)
    mask = torch.arange(5) < torch.tensor([[5], [2]])
    expected = oracle(X, T, WORDS, encoder_attention_mask=mask).sample
    assert relative_error(ours(X, T, Conditioning(tokens=WORDS, token_mask=mask)), expected) <= 1e-5


@torch.no_grad()
def test_xl_with_its_vector_equals_the_oracle() -> None:
    ours, oracle = pair(XL)
    pooled, numbers = normal((2, POOLED), "unet", "pooled"), torch.tensor([[512, 640, 0, 7, 1024, 1024]] * 2)
    expected = oracle(X, T, WORDS, added_cond_kwargs={"text_embeds": pooled, "time_ids": numbers}).sample
    vector = torch.cat([pooled, sinusoid(numbers.flatten(), NUMBERS).view(2, -1)], dim=1)
    assert relative_error(ours(X, T, Conditioning(vector=vector, tokens=WORDS)), expected) <= 1e-5


@torch.no_grad()
def test_a_map_is_concatenated_behind_the_latent() -> None:
    ours, oracle = pair(SD1, channels=9, spatial_channels=5)
    spatial = normal((2, 5, 8, 12), "unet", "spatial")
    expected = oracle(torch.cat([X, spatial], dim=1), T, WORDS).sample
    assert relative_error(ours(X, T, Conditioning(tokens=WORDS, spatial=spatial)), expected) <= 1e-5
