"""Gradients of what sketches are made by, against finite differences in float64."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import gradcheck

from undiffuse.core.random import normal
from undiffuse.networks.arrangement import Arrangement
from undiffuse.networks.memory import Memory
from undiffuse.training.objectives.sketch import recollection


def random(*shape: int, name: str) -> Tensor:
    return normal(shape, "gradients", name).double().requires_grad_()


def test_two_things_are_told_apart_and_put_together() -> None:
    arrangement = Arrangement(context_width=6, pools=2, width=5, channels=3, side=4).double()
    states, mask = random(1, 3, 6, name="states"), torch.tensor([[True, True, False]])
    assert gradcheck(lambda states: arrangement.tell_apart(states, mask), (states,))
    first, second, ways = random(1, 3, 4, 4, name="first"), random(1, 3, 4, 4, name="second"), random(1, 2, name="ways")
    assert gradcheck(arrangement, (first, second, ways))


def test_pictures_are_called_to_mind() -> None:
    memory = Memory(width=5, remembered=3, key=4, channels=2, side=4, traits=2).double()
    with torch.no_grad():
        memory.keep(random(3, 3, 4, 4, name="things"), random(3, 4, 4, name="mean"), random(2, 3, 4, 4, name="basis"))
    features, expected = random(1, 5, name="features"), random(1, 2, 4, 4, name="expected")
    assert gradcheck(memory, (features, expected))
    assert gradcheck(memory.thing, (features,))


def test_nats_of_what_is_sought() -> None:
    logits, groups = random(3, 4, name="logits"), torch.tensor([1, 2, 1, 3])
    sought, strange = torch.tensor([0, 0, 3]), torch.tensor([False, True, False])
    assert gradcheck(lambda logits: recollection(logits, sought, strange, groups), (logits,))
