"""Class names to conditioning, and help for those who misspell one."""

from __future__ import annotations

import pytest
import torch

from undiffuse.conditioners.labels import LabelConditioner
from undiffuse.core.errors import SpecError

CLASSES = ["cat", "fox", "Rocket", "bicycle", "boat", "tree"]


def test_the_vector_route_reads_the_table() -> None:
    part = LabelConditioner(CLASSES, width=3)
    cond = part([{"label": "fox"}, {"label": "Rocket"}])
    assert list(cond.slots()) == ["vector"]
    assert torch.equal(cond.vector, part.table.weight[[1, 2]])
    assert (part.vector_width, part.token_width) == (3, 0)


def test_the_token_route_gives_one_token() -> None:
    part = LabelConditioner(CLASSES, width=3, route="tokens")
    cond = part([{"label": "fox"}, {}])
    assert list(cond.slots()) == ["tokens"]
    assert torch.equal(cond.tokens, part.table.weight[[1, 6]][:, None])
    assert (part.vector_width, part.token_width) == (0, 3)


def test_a_missing_label_is_the_null_row() -> None:
    part = LabelConditioner(CLASSES, width=3)
    null = part.null(3).slots()["vector"]
    assert torch.equal(null, part.table.weight[6].expand(3, 3))
    assert torch.equal(part([{}, {"label": None}, {"caption": "a fox"}]).slots()["vector"], null)


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("foxx", "unknown label 'foxx'; this model knows 6 labels, the nearest: fox."),
        ("ROCKETS", "unknown label 'ROCKETS'; this model knows 6 labels, the nearest: Rocket."),
        ("zzz", "unknown label 'zzz'; this model knows 6 labels, the first: cat, fox, Rocket, bicycle, boat."),
    ],
)
def test_an_unknown_label_names_those_like_it(label: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        LabelConditioner(CLASSES, width=3)([{"label": label}])
    assert str(caught.value) == message


@pytest.mark.parametrize("classes", [[], ["fox", "cat", "fox"]])
def test_classes_must_be_named_once(classes: list[str]) -> None:
    with pytest.raises(SpecError, match="each named once"):
        LabelConditioner(classes, width=3)


def test_an_unknown_route_is_refused() -> None:
    with pytest.raises(SpecError, match="route 'spatial'; there are: vector, tokens"):
        LabelConditioner(CLASSES, width=3, route="spatial")  # type: ignore[arg-type]
