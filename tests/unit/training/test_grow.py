"""A trained U-Net that gets more inputs answers at first as it did."""

from __future__ import annotations

import pytest
import torch

from undiffuse.core.conditioning import Conditioning
from undiffuse.core.errors import SpecError
from undiffuse.core.random import normal
from undiffuse.networks.unet import UNet
from undiffuse.training.grow import grow_into

SIZES = {"in_channels": 2, "out_channels": 2, "widths": (32, 32), "blocks": 1, "depths": (0, 0)}
X, T = normal((2, 2, 4, 4), "test", "x"), torch.tensor([10.0, 500.0])


def net(**more: int) -> UNet:
    torch.manual_seed(0)
    made = UNet(**SIZES, **more)  # type: ignore[arg-type]
    torch.nn.init.normal_(made.last.weight)
    return made.eval()


@pytest.mark.parametrize("vector", [None, 3])
def test_new_inputs_change_nothing_at_first_and_can_learn(vector: int | None) -> None:
    old = net(**({"vector_width": vector} if vector else {}))
    new = net(vector_width=(vector or 0) + 4, spatial_channels=5)
    grow_into(new, old)
    said = normal((2, vector or 0), "test", "vector")
    more = Conditioning(
        vector=torch.cat([said, normal((2, 4), "test", "more")], 1), spatial=normal((2, 5, 4, 4), "test", "map")
    )

    before, after = old(X, T, Conditioning(vector=said if vector else None)), new(X, T, more)
    assert torch.allclose(before, after, atol=1e-5)
    after.square().sum().backward()
    assert new.first.weight.grad is not None and new.first.weight.grad[:, 2:].abs().max() > 0


def test_a_table_is_begun_with_rows_that_add_nothing() -> None:
    old, new = net(), net(vector_width=3, vector_embedding="table")  # type: ignore[arg-type]
    grow_into(new, old)
    assert torch.equal(old(X, T, Conditioning()), new(X, T, Conditioning(vector=torch.eye(3)[:2])))


def test_another_net_is_refused() -> None:
    with pytest.raises(SpecError, match="does not fit the model to start from; only more inputs can be added"):
        grow_into(net(), UNet(in_channels=2, out_channels=2, widths=(64, 32), blocks=1, depths=(0, 0)))


def test_words_for_a_net_that_read_none_change_nothing_at_first_and_can_be_learned() -> None:
    torch.manual_seed(0)
    sizes = {"in_channels": 2, "out_channels": 2, "widths": (32,), "blocks": 1, "depths": (1,), "heads": 2}
    old, new = UNet(**sizes), UNet(**sizes, context_width=6)  # type: ignore[arg-type]
    for weight in old.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    grow_into(new, old)
    words = Conditioning(tokens=normal((2, 3, 6), "test", "words"))

    assert torch.allclose(old(X, T, Conditioning()), new(X, T, words), atol=1e-5)
    new(X, T, words).square().sum().backward()
    learned = [p.grad for name, p in new.named_parameters() if "attend_cross.to_out" in name]
    assert learned and all(grad is not None and grad.abs().max() > 0 for grad in learned)
