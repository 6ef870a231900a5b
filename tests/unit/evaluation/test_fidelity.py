"""KID: what it is by definition, that it is unbiased, and what models are asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import permutations
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from undiffuse.core.errors import DataError
from undiffuse.core.random import normal
from undiffuse.evaluation import report
from undiffuse.evaluation.fidelity import Discrepancy, evaluate_fidelity


def test_the_estimate_is_the_definition_pair_by_pair() -> None:
    one, other = normal((5, 3), "kid", "one").double(), normal((4, 3), "kid", "other").double()

    def kernel(x: Tensor, y: Tensor) -> float:
        return float((x @ y / 3 + 1) ** 3)

    def within(rows: Tensor) -> float:
        return float(np.mean([kernel(x, y) for x, y in permutations(rows, 2)]))

    between = np.mean([kernel(x, y) for x in one for y in other])
    assert Discrepancy(one, other).value() == pytest.approx(within(one) + within(other) - 2 * between)


def test_it_is_0_on_average_for_one_distribution_and_more_for_two() -> None:
    same = [Discrepancy(normal((12, 4), "a", k), normal((12, 4), "b", k)).value() for k in range(400)]
    apart = [Discrepancy(normal((12, 4), "a", k), normal((12, 4), "b", k) + 1).value() for k in range(20)]

    assert abs(np.mean(same)) < 3 * np.std(same) / len(same) ** 0.5
    assert np.mean(apart) > 10 * np.std(same) / len(same) ** 0.5


def test_the_mean_of_gaussians_tells_in_closed_form() -> None:
    """With one feature and unit variance E k(x, y) = 1 + 3ab + 3(1+a^2)(1+b^2) + (a^3+3a)(b^3+3b) for means a and b."""

    def expected(a: float, b: float) -> float:
        return 1 + 3 * a * b + 3 * (1 + a**2) * (1 + b**2) + (a**3 + 3 * a) * (b**3 + 3 * b)

    values = [Discrepancy(normal((40, 1), "x", k), normal((40, 1), "y", k) + 0.7).value() for k in range(300)]
    exact = expected(0, 0) + expected(0.7, 0.7) - 2 * expected(0, 0.7)
    assert np.mean(values) == pytest.approx(exact, abs=3 * float(np.std(values)) / 300**0.5)


def test_a_row_chosen_twice_is_not_compared_with_itself() -> None:
    one, other = normal((3, 2), "kid", 1), normal((6, 2), "kid", 2)
    assert Discrepancy(one, other).value(np.array([0, 1, 1])) != Discrepancy(one[[0, 1, 1]], other).value()
    assert Discrepancy(one, other).value(np.array([1, 1, 1])) == 0


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "RESAMPLES", 40)


def measure(gallery: Any, extractor: Any, draw: Any, **more: Any) -> Any:
    options = {"fields": ("caption",), "size": 16, "count": 9, "seed": 0, "batch": 2, "progress": lambda *_: None}
    return evaluate_fidelity(gallery, draw, extractor, **{**options, **more})


def test_each_drawing_is_asked_for_what_a_held_out_picture_says(hues: Any, mean_colour: Any) -> None:
    asked: list[Mapping[str, Any]] = []

    def draw(some: Sequence[Mapping[str, Any]]) -> Tensor:
        asked.extend(some)
        return torch.stack([normal((3, 16, 16), "drawn", said["seed"]) for said in some])

    found = measure(hues, mean_colour, draw)
    captions = sorted(row.caption for row in hues.rows if row.split == "val")
    assert sorted(said["prompt"] for said in asked) == captions and len({said["seed"] for said in asked}) == 3
    assert found.kid.n == found.kid_real.n == 3

    asked.clear()
    measure(hues, mean_colour, draw, fields=())
    assert all(set(said) == {"seed"} for said in asked)
    asked.clear()
    measure(hues, mean_colour, draw, fields=("label",), classes=("hue 0", "hue 5"))
    assert sorted(said.get("label", "") for said in asked) == ["", "hue 0", "hue 5"]


def test_real_pictures_in_the_place_of_drawings_are_nearer_than_grey(hues: Any, mean_colour: Any) -> None:
    grey = measure(hues, mean_colour, lambda some: torch.zeros(len(some), 3, 16, 16) - 3)
    assert grey.kid.value > grey.kid_real.value


def test_a_split_of_one_picture_is_too_few(hues: Any, mean_colour: Any) -> None:
    with pytest.raises(DataError, match="1 pictures of the val split; 2 at least are needed in each"):
        measure(hues, mean_colour, lambda some: torch.zeros(len(some), 3, 16, 16), count=1)
