"""From token states to the map that words make one expect."""

from __future__ import annotations

import torch

from undiffuse.core.random import normal
from undiffuse.networks.sketcher import Sketcher

STATES = normal((3, 5, 8), "states")
MASK = torch.tensor([[True] * 5, [True] * 2 + [False] * 3, [True] + [False] * 4])


def make() -> Sketcher:
    return Sketcher(8, channels=2, side=4, pools=2, width=16, depth=1, rank=6)


def test_a_map_for_every_caption() -> None:
    assert make()(STATES, MASK).shape == (3, 2, 4, 4)


def test_what_lies_behind_the_mask_does_not_count() -> None:
    net = make()
    disturbed = torch.where(MASK[..., None], STATES, STATES + 9)
    assert torch.equal(net(disturbed, MASK), net(STATES, MASK))
    torch.testing.assert_close(net(STATES[:, :2], MASK[:, :2])[1:], net(STATES, MASK)[1:])


def test_order_of_tokens_does_not_count() -> None:
    net = make()
    turned = torch.tensor([4, 3, 2, 1, 0])
    torch.testing.assert_close(net(STATES[:1, turned], MASK[:1]), net(STATES[:1], MASK[:1]))


def test_it_begins_with_the_maps_that_it_is_given() -> None:
    net = make()
    mean, components, deviations = normal((2, 4, 4), "mean"), normal((6, 2, 4, 4), "components"), torch.arange(6.0)
    net.start_linear(mean, components, deviations)
    weights = normal((3, 6), "weights")
    expected = mean + torch.einsum("br,rchw->bchw", weights * deviations, components)
    torch.testing.assert_close(net.basis(weights).view(3, 2, 4, 4), expected)


def test_it_learns_the_mean_of_what_a_caption_is_said_of() -> None:
    net = make()
    wanted = normal((3, 2, 4, 4), "wanted")
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    for step in range(300):
        seen = wanted + (0.5 if step % 2 else -0.5)  # the same words, two pictures
        loss = (net(STATES, MASK) - seen).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    error = (net(STATES, MASK) - wanted).square().mean().item()
    assert error < 0.05 < wanted.var().item()
