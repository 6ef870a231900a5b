"""Numbers depend on the path alone: not on order, not on batch, not on any global generator."""

from __future__ import annotations

import torch

from undiffuse.core.random import BatchNoise, PictureNoise, normal, numpy_stream, stream_seed, uniform


def test_equal_paths_give_equal_numbers_in_any_order() -> None:
    first, second = normal((4,), "a", 1), normal((4,), "a", 2)

    assert torch.equal(second, normal((4,), "a", 2))
    assert torch.equal(first, normal((4,), "a", 1))
    assert not torch.equal(first, second)


def test_parts_of_a_path_do_not_run_together() -> None:
    paths = [("ab", "c"), ("a", "bc"), ("abc",), (1, 23), (12, 3), ("1", "23")]

    assert len({stream_seed(*path) for path in paths}) == len(paths)


def test_seeds_are_the_same_on_every_machine() -> None:
    assert stream_seed("draw", 7, 0, -1) == 402769651784858682


def test_global_generators_are_neither_read_nor_moved() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()

    uniform((3,), "x")
    numpy_stream("x").normal()

    assert torch.equal(torch.get_rng_state(), before)


def test_a_picture_has_its_own_noise_in_every_batch() -> None:
    alone = PictureNoise(7, [3], (2, 4, 4))
    together = PictureNoise(7, range(5), (2, 4, 4))

    assert torch.equal(alone(0)[0], together(0)[3])
    assert not torch.equal(alone(0), alone(1))


def test_slots_of_a_batch_get_their_numbers_whoever_draws_them() -> None:
    whole, part = (BatchNoise(torch.device("cpu"), 6, slots, "batch", 3) for slots in (range(6), range(2, 5)))
    assert torch.equal(whole.normal("noise", (2, 2))[2:5], part.normal("noise", (2, 2)))
    assert torch.equal(whole.uniform("level")[2:5], part.uniform("level"))
    assert not torch.equal(whole.uniform("level"), whole.uniform("drop"))
    assert len(whole.normal("noise", (3,)).unique(dim=0)) == 6
