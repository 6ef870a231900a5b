"""Boxes as tokens, and pictures to resemble."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from undiffuse.conditioners.base import Sight, Surroundings
from undiffuse.conditioners.boxes import BoxesConditioner, BoxesSpec
from undiffuse.conditioners.lookalike import LookalikeConditioner, LookalikeSpec
from undiffuse.core.errors import DataError, SpecError
from undiffuse.core.random import normal, numpy_stream
from undiffuse.data.records import Example

SIGHT = Sight(encode=lambda pixels: pixels, describe=lambda pixels: pixels.mean((2, 3)), size=(8, 8))
FOX, TREE = (0.1, 0.2, 0.5, 0.9, "fox"), (0.5, 0.0, 1.0, 1.0, "tree")


@pytest.fixture
def boxes() -> BoxesConditioner:
    torch.manual_seed(0)
    return BoxesConditioner(["fox", "tree"], width=6, most=3)


def test_a_box_is_a_token_and_the_first_is_always_there(boxes: BoxesConditioner) -> None:
    rows = boxes.read([{"boxes": [FOX, TREE]}, {"boxes": [FOX]}, {}], SIGHT)
    cond = boxes(rows).slots()

    assert cond["tokens"].shape == (3, 4, 6)
    assert cond["token_mask"].tolist() == [[True, True, True, False], [True, True, False, False], [True, False, False, False]]
    assert torch.equal(cond["tokens"][0, 2], cond["tokens"][1, 1])  # the larger box comes first
    assert torch.equal(cond["tokens"][2, 1:], torch.zeros(3, 6))


def test_where_and_what_both_count(boxes: BoxesConditioner) -> None:
    asked = [{"boxes": [FOX]}, {"boxes": [(0.1, 0.2, 0.5, 0.9, "tree")]}, {"boxes": [(0.2, 0.2, 0.6, 0.9, "fox")]}]
    tokens = boxes(boxes.read(asked, SIGHT)).slots()["tokens"][:, 1]
    assert len({tuple(row.tolist()) for row in tokens}) == 3


def test_the_largest_boxes_are_kept(boxes: BoxesConditioner) -> None:
    small = [(0.0, 0.0, 0.1 + n / 100, 0.1, "fox") for n in range(5)]
    row = boxes.read([{"boxes": [*small, TREE]}], SIGHT)[0]
    assert row["box_labels"].tolist() == [1, 0, 0]
    assert row["boxes"][1:, 2].tolist() == pytest.approx([0.14, 0.13])


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ((0.5, 0, 0.2, 1, "fox"), r"0 <= left < right <= 1"),
        ((0, 0, 1.5, 1, "fox"), r"0 <= left < right <= 1"),
        ((0, 0, 1, "fox"), r"\[left, top, right, bottom, label\]"),
        ((0, 0, 1, 1, "cat"), r"the box label 'cat'; this model knows 2, the first: fox, tree"),
    ],
)
def test_what_is_no_box_is_refused(boxes: BoxesConditioner, box: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        boxes.read([{"boxes": [box]}], SIGHT)


def test_labels_and_width_come_from_where_boxes_are_used() -> None:
    spec = BoxesSpec().fitted(Surroundings(4, 8, box_labels=("fox",), token_width=16))
    assert (spec.classes, spec.routes().tokens) == (("fox",), 16)
    with pytest.raises(SpecError, match="no picture of the data set has any"):
        BoxesSpec().fitted(Surroundings(4, 8))


@pytest.mark.parametrize(("route", "shape"), [("vector", (2, 5)), ("tokens", (2, 4, 5))])
def test_features_of_a_picture_take_either_route(route: Any, shape: tuple[int, ...]) -> None:
    spec = LookalikeSpec(features=3, width=5, route=route)
    part = spec.build(None)
    torch.nn.init.normal_(part.nothing)
    picture = normal((3, 8, 8), "test", "like")
    rows = part.read([part.show(Example(picture, ""), numpy_stream("test")), {}], SIGHT)
    slots = part(rows).slots()

    assert {name: tuple(value.shape) for name, value in slots.items()} == {route: shape}
    assert torch.equal(slots[route][1].flatten(), part.nothing)
    assert not torch.equal(slots[route][0], slots[route][1])


def test_only_the_direction_of_features_counts() -> None:
    part = LookalikeConditioner(features=3, width=2, count=None)
    feature = torch.tensor([0.3, -1.0, 2.0])
    one, other = part([{"like": feature}, {"like": 5 * feature}]).slots()["vector"]
    assert torch.allclose(one, other, atol=1e-6)


def test_boxes_that_a_model_cannot_name_are_not_shown_to_it(boxes: BoxesConditioner) -> None:
    example = Example(torch.zeros(3, 8, 8), "", fields={"boxes": [list(FOX), [0.0, 0.0, 1.0, 1.0, "castle"]]})
    assert boxes.show(example, numpy_stream("test")) == {"boxes": [list(FOX)]}
    assert boxes.show(Example(torch.zeros(3, 8, 8), ""), numpy_stream("test")) == {"boxes": []}


def test_a_number_of_features_that_the_classifier_does_not_give_is_refused() -> None:
    part = LookalikeSpec(features=64, width=5).build(None)
    with pytest.raises(SpecError, match=r"features = 64 .*; the classifier gives 3; leave it out"):
        part.read([{"like": normal((3, 8, 8), "test", "like")}], SIGHT)
