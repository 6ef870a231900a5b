"""The U-Net: what it takes, what it refuses, and that every way of steering it reaches the output."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from undiffuse.core.conditioning import Conditioning
from undiffuse.core.errors import SpecError
from undiffuse.core.random import normal
from undiffuse.networks.unet import UNet, count_heads

SIZES: dict[str, Any] = {"in_channels": 4, "out_channels": 4, "widths": (32, 64), "blocks": 1, "depths": (0, 1), "heads": 2}
STEERED = SIZES | {"context_width": 6, "vector_width": 5, "spatial_channels": 3}


def randomised(net: nn.Module) -> nn.Module:
    with torch.no_grad():
        for name, weight in net.named_parameters():
            if weight.abs().max() == 0:
                weight.copy_(normal(weight.shape, "unet", name) * 0.1)
    return net.eval()


@pytest.fixture(scope="module")
def net() -> nn.Module:
    return randomised(UNet(**STEERED))


@pytest.fixture
def inputs() -> tuple[Tensor, Tensor, Conditioning]:
    cond = Conditioning(
        vector=normal((2, 5), "vector"), tokens=normal((2, 3, 6), "tokens"), spatial=normal((2, 3, 8, 4), "spatial")
    )
    return normal((2, 4, 8, 4), "x"), torch.tensor([10.0, 900.0]), cond


@torch.no_grad()
def test_the_output_has_the_size_of_the_input(net: nn.Module, inputs: tuple[Tensor, Tensor, Conditioning]) -> None:
    assert net(*inputs).shape == (2, 4, 8, 4)


@torch.no_grad()
@pytest.mark.parametrize("slot", ["vector", "tokens", "spatial"])
def test_every_slot_steers(net: nn.Module, inputs: tuple[Tensor, Tensor, Conditioning], slot: str) -> None:
    x, t, cond = inputs
    other = replace(cond, **{slot: getattr(cond, slot) + normal(getattr(cond, slot).shape, "other")})
    assert (net(x, t, other) - net(x, t, cond)).abs().max() > 1e-4


@torch.no_grad()
def test_time_steers(net: nn.Module, inputs: tuple[Tensor, Tensor, Conditioning]) -> None:
    x, t, cond = inputs
    assert (net(x, t + 50, cond) - net(x, t, cond)).abs().max() > 1e-4


@torch.no_grad()
def test_masked_tokens_do_not_steer(net: nn.Module, inputs: tuple[Tensor, Tensor, Conditioning]) -> None:
    x, t, cond = inputs
    assert cond.tokens is not None
    cond = replace(cond, token_mask=torch.tensor([[True, True, False]] * 2))
    other = replace(cond, tokens=torch.cat([cond.tokens[:, :2], 9 * cond.tokens[:, 2:]], dim=1))
    torch.testing.assert_close(net(x, t, other), net(x, t, cond))


@pytest.mark.parametrize(
    ("slot", "message"),
    [
        ("vector", "no conditioning vector"),
        ("tokens", "no conditioning tokens"),
        ("spatial", "no conditioning map; .* 3 channels"),
    ],
)
def test_an_empty_slot_that_the_net_needs_is_refused(
    net: nn.Module, inputs: tuple[Tensor, Tensor, Conditioning], slot: str, message: str
) -> None:
    x, t, cond = inputs
    with pytest.raises(SpecError, match=message):
        net(x, t, replace(cond, **{slot: None}))


@torch.no_grad()
def test_a_net_that_reads_nothing_needs_no_conditioning() -> None:
    net = UNet(**SIZES)
    assert not net(normal((1, 4, 4, 4), "x"), torch.zeros(1), Conditioning()).any()  # the last layer starts at zero


@pytest.mark.parametrize("size", [(7, 8), (8, 5)])
def test_sides_that_cannot_be_halved_are_refused(net: nn.Module, size: tuple[int, int]) -> None:
    with pytest.raises(SpecError, match=r"a latent of .*; both sides must be multiples of 2"):
        net(torch.zeros(1, 4, *size), torch.zeros(1), Conditioning())


def test_widths_and_depths_must_agree() -> None:
    with pytest.raises(SpecError, match="2 widths and 1 depths; each level needs one of both"):
        UNet(**SIZES | {"depths": (0,)})


@pytest.mark.parametrize(
    ("heads", "head_width", "message"),
    [
        (None, None, "exactly one"),
        (2, 8, "exactly one"),
        (5, None, "5 does not divide the 64"),
        (None, 48, "48 does not divide"),
    ],
)
def test_heads_that_do_not_fit_are_refused(heads: int | None, head_width: int | None, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        UNet(**SIZES | {"heads": heads, "head_width": head_width})


def test_heads_by_number_and_by_width() -> None:
    assert count_heads(320, 8, None) == count_heads(640, 8, None) == 8
    assert [count_heads(width, None, 64) for width in (320, 640, 1280)] == [5, 10, 20]


@pytest.mark.parametrize(("mid_depth", "blocks"), [(None, 3), (0, 0), (2, 2)])
def test_the_middle_is_as_deep_as_the_last_level_with_attention_unless_told(mid_depth: int | None, blocks: int) -> None:
    net = UNet(**SIZES | {"widths": (32, 32, 32), "depths": (1, 3, 0), "mid_depth": mid_depth})
    found = [name for name, _ in net.middle.named_parameters() if "feed.narrow.weight" in name]
    assert len(found) == blocks


@torch.no_grad()
def test_channels_last_changes_nothing(net: nn.Module, inputs: tuple[Tensor, Tensor, Conditioning]) -> None:
    x, t, cond = inputs
    torch.testing.assert_close(net(x.to(memory_format=torch.channels_last), t, cond), net(x, t, cond), atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_a_table_adds_the_row_that_the_vector_names(inputs: tuple[Tensor, Tensor, Conditioning]) -> None:
    x, t, cond = inputs
    net = randomised(UNet(**STEERED, vector_embedding="table"))
    rows = torch.eye(5)[[3, 1]]
    before = net(x, t, replace(cond, vector=rows))
    net.embed_vector.weight[[0, 2, 4]] += 1  # rows that nobody names
    assert torch.equal(net(x, t, replace(cond, vector=rows)), before)
    net.embed_vector.weight[3] += 1
    after = net(x, t, replace(cond, vector=rows))
    assert torch.equal(after[1], before[1]) and not torch.allclose(after[0], before[0])


def test_attending_to_a_context_alone_needs_one() -> None:
    with pytest.raises(SpecError, match="cross_only without a context"):
        UNet(**SIZES, cross_only=(1,))
