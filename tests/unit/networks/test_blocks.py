"""The small parts of the nets: what each does to its input, against its definition."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from undiffuse.core.random import normal
from undiffuse.networks.attention import (
    Attention,
    GatedFeedForward,
    SpatialTransformer,
    TransformerBlock,
    attention_weights,
)
from undiffuse.networks.blocks import ResidualBlock, SpatialSelfAttention, group_norm
from undiffuse.networks.embeddings import TimeEmbedding, sinusoid


@pytest.mark.parametrize(("width", "groups"), [(320, 32), (64, 32), (32, 32), (48, 24), (16, 16), (3, 3), (37, 1), (1, 1)])
def test_groups_are_32_or_the_largest_divisor_below(width: int, groups: int) -> None:
    assert group_norm(width, 1e-5).num_groups == groups


def test_a_fresh_residual_block_is_its_skip() -> None:
    x = normal((2, 8, 4, 4), "x")
    assert torch.equal(ResidualBlock(8, 8)(x), x)
    wider = ResidualBlock(8, 12, embedding_width=5)
    assert torch.equal(wider(x, normal((2, 5), "embedding")), wider.skip(x))


def test_the_embedding_moves_every_position_of_a_channel_alike() -> None:
    block = ResidualBlock(4, 4, embedding_width=3)
    seen: list[torch.Tensor] = []
    block.norm2.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    x = normal((1, 4, 3, 3), "x")
    for embedding in (torch.zeros(1, 3), torch.ones(1, 3)):
        block(x, embedding)
    moved = seen[1] - seen[0]
    expected = block.embedding(F.silu(torch.ones(1, 3))) - block.embedding(torch.zeros(1, 3))  # type: ignore[misc]
    torch.testing.assert_close(moved, expected[:, :, None, None].expand_as(moved))


def test_spatial_attention_follows_its_formula() -> None:
    net = SpatialSelfAttention(8)
    x = normal((2, 8, 3, 4), "x")
    h = net.norm(x)
    query, key, value = (f(h).flatten(2) for f in (net.query, net.key, net.value))  # (B, C, HW)
    weights = torch.softmax(torch.einsum("bcn,bcm->bnm", query, key) / math.sqrt(8), dim=2)
    mixed = torch.einsum("bnm,bcm->bcn", weights, value).view_as(x)
    torch.testing.assert_close(net(x), x + net.out(mixed))


@pytest.mark.parametrize("heads", [1, 2, 4])
@pytest.mark.parametrize("masked", [False, True])
def test_attention_follows_its_formula_head_by_head(heads: int, masked: bool) -> None:
    net = Attention(8, 6, heads)
    x, context = normal((2, 3, 8), "x"), normal((2, 5, 6), "context")
    mask = torch.arange(5) < torch.tensor([[5], [2]]) if masked else None
    query, key, value = net.to_query(x), net.to_key(context), net.to_value(context)
    parts = []
    for columns in torch.arange(8).chunk(heads):
        logits = query[..., columns] @ key[..., columns].transpose(1, 2) / math.sqrt(len(columns))
        if mask is not None:
            logits = logits.masked_fill(~mask[:, None], -math.inf)
        parts.append(torch.softmax(logits, -1) @ value[..., columns])
    torch.testing.assert_close(net(x, context, mask), net.to_out(torch.cat(parts, -1)))


def test_attention_weights_sum_to_one_and_masked_tokens_get_none() -> None:
    query, key = normal((2, 2, 3, 4), "query"), normal((2, 2, 5, 4), "key")
    keep = (torch.arange(5) < torch.tensor([[5], [3]]))[:, None, None]
    weights = attention_weights(query, key, keep)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 2, 3))
    assert not weights[1, ..., 3:].any()


def test_the_gate_multiplies_the_values() -> None:
    net = GatedFeedForward(3)
    x = normal((1, 2, 3), "x")
    value, gate = net.widen(x)[..., :12], net.widen(x)[..., 12:]
    torch.testing.assert_close(net(x), net.narrow(value * gate * 0.5 * (1 + torch.erf(gate / math.sqrt(2)))))


def test_a_block_that_attends_to_its_context_alone_mixes_no_positions() -> None:
    x, context = normal((1, 5, 4), "x"), normal((1, 3, 6), "context")
    alone, mixing = (TransformerBlock(4, 2, context_width=6, cross_only=kind) for kind in (True, False))
    assert torch.allclose(alone(x[:, :2], context), alone(x, context)[:, :2], atol=1e-6)
    assert not torch.allclose(mixing(x[:, :2], context), mixing(x, context)[:, :2], atol=1e-6)
    assert alone.attend_self.to_key.weight.shape == (4, 6)


def test_a_block_without_context_width_has_no_cross_attention() -> None:
    block = TransformerBlock(4, 2, context_width=None)
    assert block.attend_cross is None
    assert not [name for name, _ in block.named_parameters() if "cross" in name]


@pytest.mark.parametrize("linear", [False, True])
def test_a_fresh_spatial_transformer_changes_nothing(linear: bool) -> None:
    x = normal((2, 8, 3, 5), "x")
    net = SpatialTransformer(8, 2, depth=1, context_width=6, linear_projection=linear)
    assert torch.equal(net(x, normal((2, 4, 6), "context")), x)


def test_linear_projection_is_the_same_arithmetic() -> None:
    convolved, linear = (SpatialTransformer(8, 2, 1, 6, linear_projection=kind) for kind in (False, True))
    state = {name: 0.3 * normal(weight.shape, name) for name, weight in convolved.state_dict().items()}
    convolved.load_state_dict(state)
    linear.load_state_dict({name: state[name].view(weight.shape) for name, weight in linear.state_dict().items()})
    x, context = normal((2, 8, 3, 5), "x"), normal((2, 4, 6), "context")
    torch.testing.assert_close(linear(x, context), convolved(x, context))


def test_the_sinusoid_is_cosines_then_sines() -> None:
    t = torch.tensor([0.0, 1.0, 500.5, 999.0])
    for row, time in zip(sinusoid(t, 8), t.tolist(), strict=True):
        frequencies = [10000 ** (-i / 4) for i in range(4)]
        expected = [math.cos(time * f) for f in frequencies] + [math.sin(time * f) for f in frequencies]
        torch.testing.assert_close(row, torch.tensor(expected), atol=1e-4, rtol=0)  # float32 angles up to 999


def test_a_net_in_bf16_tells_neighbouring_times_apart() -> None:
    embed = TimeEmbedding(32, 16).to(torch.bfloat16)
    first, second = embed(torch.tensor([999.0, 1000.0]))
    assert first.dtype == torch.bfloat16
    assert not torch.equal(first, second)


@pytest.mark.parametrize("width", [2, 32, 64])
def test_an_embedding_reaches_the_output_at_any_width(width: int) -> None:
    block = ResidualBlock(width, width, embedding_width=4)
    torch.nn.init.normal_(block.conv2.weight)
    x = normal((1, width, 4, 4), "test", "x")
    one, other = (block(x, normal((1, 4), "test", "embedding", n)) for n in (0, 1))
    assert (one - other).abs().max() > 1e-3
