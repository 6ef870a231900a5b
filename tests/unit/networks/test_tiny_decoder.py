"""The decoder for previews: sizes, and nothing but convolutions and ReLU inside."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from undiffuse.core.random import normal
from undiffuse.networks.tiny_decoder import Block, TinyDecoder


@pytest.mark.parametrize(("factor", "patch"), [(1, 1), (2, 1), (8, 1), (8, 4), (8, 8), (12, 3)])
@torch.no_grad()
def test_pictures_are_larger_by_the_factor(factor: int, patch: int) -> None:
    net = TinyDecoder(latent_channels=5, factor=factor, width=4, blocks=1, patch=patch)
    assert net(normal((2, 5, 2, 3), "z")).shape == (2, 3, 2 * factor, 3 * factor)


def test_it_is_small_and_made_of_convolutions() -> None:
    with torch.device("meta"):
        net = TinyDecoder(latent_channels=4, factor=8)
    leaves = [module for module in net.modules() if not list(module.children())]
    assert {type(leaf) for leaf in leaves} == {nn.Conv2d}
    assert sum(p.numel() for p in net.parameters()) == 1_222_531  # the decoder of Stable Diffusion has 49,490,199


@torch.no_grad()
def test_a_block_adds_to_what_it_is_given() -> None:
    block, x = Block(3), normal((1, 3, 4, 4), "x")
    for weight in block.parameters():
        weight.zero_()
    assert torch.equal(block(x), x.relu())
