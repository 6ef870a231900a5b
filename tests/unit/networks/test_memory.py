"""Pictures that a caption calls to mind, before the background that it names."""

from __future__ import annotations

import pytest
import torch

from undiffuse.checkpoints.tensors import round4
from undiffuse.conditioners.text import SketchSpec
from undiffuse.core.membrane import continued
from undiffuse.core.random import normal, uniform
from undiffuse.networks.memory import (
    HEEDED,
    PLAINLY,
    SHARPER,
    STAND_INS,
    Memory,
    Seen,
    background,
    in_front_of,
    kept_apart,
    seen_around,
)
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


def test_what_is_to_be_seen_counts_beside_the_words() -> None:
    memory, where = make(), torch.zeros(3, 1, SIDE, SIDE)
    where[:, :, :, : SIDE // 2] = 1
    maps = torch.stack([in_front_of(THINGS, EXPECTED[row : row + 1]) for row in range(3)])  # (3, COUNT, C, side, side)
    seen = Seen(maps[:, 1] + 0.1, where)
    plain = torch.stack([continued(one, where[0, 0] > 0) for one in seen.maps])
    maps = torch.cat([maps, -EXPECTED[:, None], plain[:, None]], dim=1)
    unlike = torch.stack(
        [((maps[:, k] - seen.maps) * where).square().sum((1, 2, 3)) / (CHANNELS * SIDE**2 / 2) for k in range(COUNT + 2)]
    )
    words = memory.logits(FEATURES)
    shares = torch.softmax(torch.cat([words, words[:, -1:] - PLAINLY], dim=1) - HEEDED * unlike.T, dim=1)
    expected = (shares[..., None, None, None] * maps).sum(1)
    torch.testing.assert_close(memory(FEATURES, EXPECTED, -EXPECTED, seen), expected, atol=1e-4, rtol=1e-4)
    found, order = memory.agreeing(FEATURES, EXPECTED, -EXPECTED, seen)
    nearest = order[torch.arange(3), found[:, :-1].argmax(1)]
    torch.testing.assert_close(nearest, maps[:, 1], atol=1e-4, rtol=1e-4)  # words alone speak for others


def test_where_nothing_is_to_be_seen_words_decide() -> None:
    memory = make()
    found, maps = memory.agreeing(FEATURES, EXPECTED, EXPECTED, Seen(EXPECTED, torch.zeros(3, 1, SIDE, SIDE)))
    assert maps.shape == (3, COUNT + STAND_INS, CHANNELS, SIDE, SIDE) and not found[:, -1].any()
    torch.testing.assert_close(found[:, :COUNT].sort().values, memory.shares(FEATURES)[:, :-1].sort().values)


def test_each_row_is_compared_where_it_is_to_be_seen() -> None:
    memory, where = make(), torch.ones(3, 1, SIDE, SIDE)
    where[0, :, :2], where[1] = 0, 0
    seen = Seen(EXPECTED + 1, where)
    together = memory(FEATURES, EXPECTED, -EXPECTED, seen)
    for row in range(3):
        own = slice(row, row + 1)
        alone = memory(FEATURES[own], EXPECTED[own], -EXPECTED[own], Seen(seen.maps[own], where[own]))
        torch.testing.assert_close(together[own], alone)
    assert torch.equal(seen.continued()[1], torch.zeros(CHANNELS, SIDE, SIDE))
    torch.testing.assert_close(seen.continued()[2], EXPECTED[2] + 1)


def test_what_agrees_with_no_picture_is_continued_smoothly() -> None:
    memory, where = make(), torch.ones(3, 1, SIDE, SIDE)
    where[..., 1, 1] = 0
    seen = Seen(torch.full((3, CHANNELS, SIDE, SIDE), 9.0), where)  # nothing of the kind is remembered
    torch.testing.assert_close(memory(FEATURES, EXPECTED, -EXPECTED, seen), seen.maps)


def test_patches_beside_a_hole_are_not_seen() -> None:
    hole = torch.zeros(1, 1, 16, 16)
    hole[..., 6:8, 10:12] = 1
    around = normal((1, CHANNELS, 16, 16), "around")
    whole, half = seen_around(hole, around, 16), seen_around(hole, around, 8)
    expected = torch.ones(16, 16)
    expected[5:9, 9:13] = 0
    assert torch.equal(whole.maps, around) and torch.equal(whole.where[0, 0], expected)
    assert half.maps.shape == (1, CHANNELS, 8, 8) and half.where.shape == (1, 1, 8, 8)
    assert torch.equal(half.where[0, 0], torch.nn.functional.avg_pool2d(expected[None, None], 2)[0, 0].floor())


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

    ours, plain = (
        float((round4(kept) @ basis - things.flatten(1)).square().mean())
        for kept, basis in ((memory.traits, memory.basis), (traits, directions))
    )
    assert ours < plain / 2


def test_settled_traits_lose_less_by_rounding_and_those_kept_twice_next_to_nothing() -> None:
    numbers, kept = (CHANNELS + 1) * SIDE**2, 96
    directions = torch.linalg.qr(normal((numbers, numbers), "directions"))[0][:kept]
    scales = torch.linspace(0, -4, kept).exp()
    things = (normal((300, kept), "traits") * scales @ directions).view(300, CHANNELS + 1, SIDE, SIDE)
    errors = []
    for twice, settled in ((0, False), (0, True), (64, True)):
        memory = Memory(WIDTH, 300, key=4, channels=CHANNELS, side=SIDE, traits=kept, twice=twice)
        memory.keep(things, torch.zeros(CHANNELS + 1, SIDE, SIDE), directions.view(kept, CHANNELS + 1, SIDE, SIDE))
        if settled:
            before = memory.kept(torch.arange(300))
            memory.settle(round4)
            torch.testing.assert_close(before, things, atol=1e-4, rtol=1e-4)
        for tensor in (memory.basis, memory.traits):
            tensor.copy_(round4(tensor))
        errors.append(float((memory.kept(torch.arange(300)) - things).square().sum() / things.square().sum()))
    assert errors[0] > 1.3 * errors[1] > 2 * errors[2]


def test_more_traits_kept_twice_than_there_are_cannot_be() -> None:
    with pytest.raises(ValueError, match=r"twice = 9; there are traits = 8 to keep; lower it"):
        SketchSpec(traits=8, twice=9)


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
