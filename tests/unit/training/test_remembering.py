"""What is kept of pictures, and which of them a rendering should call to mind."""

from __future__ import annotations

import torch

from undiffuse.training.remembering import called_to_mind, groups_of

SHOWN = torch.tensor([0, 2])  # of three pictures


def test_two_things_call_nothing_to_mind_nor_does_what_was_kept_apart() -> None:
    layouts = [["one", "left-right"], ["one", "one"], ["whole", "above-below"]]
    assert called_to_mind(SHOWN, layouts).tolist() == [0, 2, 2, 2, 1, 2]


def test_pictures_of_one_label_are_a_group_and_those_of_none_stand_alone() -> None:
    fox, other, boat, none, also_none, no_picture = groups_of(["fox", "fox", "boat", None, None], torch.arange(5)).tolist()
    assert fox == other != boat
    assert len({fox, boat, none, also_none, no_picture}) == 5
