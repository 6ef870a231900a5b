"""Two things that a caption names: which words tell which, and where both stand."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from undiffuse.core.random import normal
from undiffuse.networks.arrangement import Arrangement
from undiffuse.networks.memory import SHARPER, in_front_of
from undiffuse.networks.sketcher import Sketcher

CONTEXT, POOLS, WIDTH, CHANNELS, SIDE = 8, 3, 16, 2, 8
STATES = normal((3, 5, CONTEXT), "states")
MASK = torch.tensor([[True] * 5, [True] * 2 + [False] * 3, [True] + [False] * 4])
FIRST, SECOND = normal((1, CHANNELS + 1, SIDE, SIDE), "first"), normal((1, CHANNELS + 1, SIDE, SIDE), "second")
BESIDE, STACKED = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])


def make(side: int = SIDE) -> Arrangement:
    return Arrangement(CONTEXT, POOLS, WIDTH, CHANNELS + 1, side)


def shrunk(thing: torch.Tensor) -> torch.Tensor:
    return F.avg_pool2d(thing, 2)


def test_things_stand_beside_each_other_at_half_their_size() -> None:
    made = make()(FIRST, SECOND, BESIDE)
    torch.testing.assert_close(made[..., 2:6, :4], shrunk(FIRST))
    torch.testing.assert_close(made[..., 2:6, 4:], shrunk(SECOND))
    assert not made[..., :2, :].any() and not made[..., 6:, :].any()


def test_or_one_above_the_other() -> None:
    arrangement = make()
    across = [thing.transpose(2, 3) for thing in (FIRST, SECOND)]
    with torch.no_grad():
        torch.testing.assert_close(arrangement(FIRST, SECOND, STACKED).transpose(2, 3), arrangement(*across, BESIDE))


def test_doubt_about_the_way_is_a_share_of_both() -> None:
    arrangement = make()
    beside, stacked = (arrangement(FIRST, SECOND, way) for way in (BESIDE, STACKED))
    torch.testing.assert_close(arrangement(FIRST, SECOND, torch.tensor([[0.25, 0.75]])), 0.25 * beside + 0.75 * stacked)


@pytest.mark.parametrize("side", [6, 7])
def test_any_side_will_do(side: int) -> None:
    things = [normal((2, CHANNELS + 1, side, side), name) for name in ("first", "second")]
    made = make(side)(*things, BESIDE.expand(2, -1))
    assert made.shape == things[0].shape
    torch.testing.assert_close(made.sum((2, 3)), sum(shrunk(thing).sum((2, 3)) for thing in things))


def test_words_behind_the_mask_do_not_count() -> None:
    arrangement = make()
    disturbed = torch.where(MASK[..., None], STATES, STATES + 9)
    for ours, theirs in zip(arrangement.tell_apart(STATES, MASK), arrangement.tell_apart(disturbed, MASK), strict=True):
        torch.testing.assert_close(ours[MASK], theirs[MASK])


def test_which_thing_a_word_belongs_to_may_follow_from_its_place() -> None:
    same = STATES[:1, :1].expand(1, 5, -1)
    first = make().tell_apart(same, MASK[:1])[0].detach()
    assert float((first[0, 1:] - first[0, :1]).abs().min()) > 1e-4


def sketcher() -> Sketcher:
    sizes = {"channels": CHANNELS, "side": SIDE, "pools": 2, "width": WIDTH, "depth": 1, "rank": 6}
    net = Sketcher(CONTEXT, **sizes, remembered=4, key=4, traits=3, two=True)
    assert net.memory is not None
    for name, tensor in (("traits", net.memory.traits), ("basis", net.memory.basis), ("mean", net.memory.mean)):
        tensor.copy_(normal(tuple(tensor.shape), name))
    return net


def test_a_sketch_of_two_things_is_both_before_the_background() -> None:
    net = sketcher()
    assert net.memory is not None and net.arrangement is not None
    with torch.no_grad():
        net.memory.lean[-1] = 1000.0  # no single picture is called to mind
        features = net.read(STATES, MASK)
        expected = net.expect(features)
        ways = torch.softmax(SHARPER * net.arrangement.way(features), dim=1)
        first, second = (net.memory.thing(some) for some in net.read_two(STATES, MASK))
        torch.testing.assert_close(net(STATES, MASK), in_front_of(net.arrangement(first, second, ways), expected))
        net.memory.lean[-1] = -1000.0
        torch.testing.assert_close(net(STATES, MASK), in_front_of(net.memory.thing(features), expected))


def test_each_of_two_things_is_called_to_mind_by_half() -> None:
    net = sketcher()
    assert net.memory is not None
    with torch.no_grad():
        net.memory.lean[-1] = 1000.0
        shares, maps = net.call_to_mind(STATES[:1], MASK[:1], 4)
        two = [torch.softmax(net.memory.logits(some)[0, :-1], dim=0) for some in net.read_two(STATES[:1], MASK[:1])]
        torch.testing.assert_close(shares, ((two[0] + two[1]) / 2).sort(descending=True).values)
        assert maps.shape == (4, CHANNELS, SIDE, SIDE) and float(shares.sum()) == pytest.approx(1)


def test_it_learns_which_of_two_words_comes_first_or_is_meant_by_below() -> None:
    net = sketcher()
    assert net.memory is not None
    words = normal((6, CONTEXT), "words")  # four things, "above" and "below"
    things = torch.cartesian_prod(torch.arange(4), torch.tensor([4, 5]), torch.arange(4))
    things = things[things[:, 0] != things[:, 2]]
    upper = torch.where(things[:, 1] == 4, things[:, 0], things[:, 2])
    lower = torch.where(things[:, 1] == 4, things[:, 2], things[:, 0])
    mask = torch.ones(things.shape, dtype=torch.bool)
    optimizer = torch.optim.Adam(net.parameters(), 5e-3)
    for _ in range(200):
        both = [net.memory.logits(some)[:, :-1] for some in net.read_two(words[things], mask)]
        loss = sum(F.cross_entropy(logits, wanted) for logits, wanted in zip(both, (upper, lower), strict=True))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    found = [net.memory.logits(some)[:, :-1].argmax(1) for some in net.read_two(words[things], mask)]
    assert torch.equal(found[0], upper) and torch.equal(found[1], lower)
