"""Pictures that a caption calls to mind, before the background that it names."""

from __future__ import annotations

import torch

from undiffuse.checkpoints.tensors import expand4, quantize4
from undiffuse.core.random import normal, uniform
from undiffuse.networks.memory import SHARPER, Memory, background, kept_apart
from undiffuse.networks.sketcher import Sketcher

WIDTH, COUNT, CHANNELS, SIDE = 6, 5, 2, 6
FEATURES = normal((3, WIDTH), "features")
EXPECTED = normal((3, CHANNELS, SIDE, SIDE), "expected")
THINGS = normal((COUNT, CHANNELS + 1, SIDE, SIDE), "things")


def make(traits: int = COUNT) -> Memory:
    memory = Memory(WIDTH, COUNT, key=4, channels=CHANNELS, side=SIDE, traits=traits)
    mean = THINGS.mean(0)
    _, _, components = torch.linalg.svd((THINGS - mean).flatten(1), full_matrices=False)
    memory.keep(THINGS, mean, components[:traits].view(-1, CHANNELS + 1, SIDE, SIDE))
    return memory


def sure_of(memory: Memory, place: int) -> Memory:
    with torch.no_grad():
        memory.lean.copy_(torch.where(torch.arange(COUNT + 1) == place, 1000.0, 0.0))
    return memory


def test_what_is_remembered_stands_before_the_background_of_the_caption() -> None:
    thing = THINGS[2]
    made = sure_of(make(), 2)(FEATURES, EXPECTED)
    expected = thing[:-1] + (1 - thing[-1:]) * background(EXPECTED)
    torch.testing.assert_close(made, expected, atol=1e-4, rtol=1e-4)


def test_where_nothing_is_called_to_mind_the_expected_map_stays() -> None:
    torch.testing.assert_close(sure_of(make(), COUNT)(FEATURES, EXPECTED), EXPECTED)


def test_doubt_is_the_mean_of_what_it_is_between() -> None:
    memory = make()
    shares = torch.softmax(SHARPER * memory.logits(FEATURES), dim=1)
    each = torch.stack([sure_of(make(), place)(FEATURES, EXPECTED) for place in range(COUNT + 1)], dim=1)
    torch.testing.assert_close(memory(FEATURES, EXPECTED), (shares[..., None, None, None] * each).sum(1), atol=1e-4, rtol=1e-4)


def test_fewer_traits_keep_what_differs_most() -> None:
    errors = []
    for traits in (1, 3, COUNT):
        memory = make(traits)
        kept = memory.traits @ memory.basis + memory.mean
        errors.append(float((kept - THINGS.flatten(1)).square().mean()))
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 1e-8


def test_four_bits_lose_less_of_traits_than_if_they_were_kept_as_they_come() -> None:
    numbers = (CHANNELS + 1) * SIDE**2
    directions = torch.linalg.qr(normal((numbers, numbers), "directions"))[0][:64]
    traits = normal((200, 64), "traits") * torch.linspace(0, -5, 64).exp()  # as principal components fall off
    things = (traits @ directions).view(200, CHANNELS + 1, SIDE, SIDE)
    memory = Memory(WIDTH, 200, key=4, channels=CHANNELS, side=SIDE, traits=64)
    memory.keep(things, torch.zeros(CHANNELS + 1, SIDE, SIDE), directions.view(64, CHANNELS + 1, SIDE, SIDE))
    torch.testing.assert_close(memory.kept(torch.arange(200)), things, atol=1e-4, rtol=1e-4)

    def in_four_bits(numbers: torch.Tensor) -> torch.Tensor:
        return expand4(*quantize4(numbers), numbers.shape)

    ours, plain = (
        float((in_four_bits(kept) @ basis - things.flatten(1)).square().mean())
        for kept, basis in ((memory.traits, memory.basis), (traits, directions))
    )
    assert ours < plain / 2


def test_the_background_is_what_corners_tell() -> None:
    plain = torch.full((1, 1, 8, 8), 3.0)
    plain[..., 3:5, 3:5] = -7.0
    torch.testing.assert_close(background(plain), torch.full((1, 1, 8, 8), 3.0))
    ramp = torch.linspace(-1, 1, 8).expand(1, 1, 8, 8)
    found = background(ramp)
    assert torch.equal(found[0, 0, 0], found[0, 0, 7])
    assert bool((found[0, 0, 0].diff() > 0).all())


def test_a_thing_and_its_cover_give_back_the_picture_that_they_are_of() -> None:
    ground = normal((CHANNELS, SIDE, SIDE), "ground")
    cover = uniform((COUNT, 1, SIDE, SIDE), "cover")
    pictures = normal((COUNT, CHANNELS, SIDE, SIDE), "pictures")
    kept = kept_apart(pictures, cover, ground)
    torch.testing.assert_close(kept[:, :-1] + (1 - kept[:, -1:]) * ground, pictures)


def test_a_sketcher_without_one_has_no_weights_for_it() -> None:
    sizes = {"channels": CHANNELS, "side": SIDE, "width": 16, "depth": 1, "rank": 6}
    bare, full = Sketcher(8, **sizes), Sketcher(8, **sizes, remembered=COUNT, key=4, traits=3)
    added = full.state_dict().keys() - bare.state_dict().keys()
    assert added and all(name.startswith("memory.") for name in added)
    states, mask = normal((3, 5, 8), "states"), torch.ones(3, 5, dtype=torch.bool)
    assert full(states, mask).shape == bare(states, mask).shape == (3, CHANNELS, SIDE, SIDE)
