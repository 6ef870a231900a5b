"""Pictures that are where their map says, and pictures that are not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from undiffuse.conditioners.maps import MapConditioner
from undiffuse.evaluation.contexts import maps
from undiffuse.evaluation.contexts.bench import LeftOut
from undiffuse.evaluation.contexts.maps import Agreement, class_accuracy, measure_maps, renumbering

CLASSES = ("thing", "sky", "ground")  # in another order than the data set's
ADD = Agreement.add
PART = MapConditioner(CLASSES, 2, None)


def test_real_pictures_agree_as_far_as_real_pictures_do(bench, painter, values) -> None:
    draw = painter()
    told = values(measure_maps(PART, bench(draw)).report)

    assert told["map_agreement"] == told["map_agreement_real"] > 0.85
    assert told["map_agreement_ratio"] == 1
    assert told["map_agreement_elsewhere"] < told["map_agreement"] - 0.1
    assert set(draw.asked[0]) == {"prompt", "layout", "seed"}
    assert np.array(draw.asked[0]["layout"])[0, 0] == 1  # sky, as the model counts


def test_a_picture_of_one_class_agrees_in_that_class_alone(bench, painter, values) -> None:
    told = values(measure_maps(PART, bench(painter(lambda pixels, _: pixels[:, :1, :1].expand_as(pixels)))).report)

    assert told["map_agreement"] == pytest.approx(1 / 3, abs=0.02)
    assert told["map_agreement_ratio"] == pytest.approx(told["map_agreement"] / told["map_agreement_real"])


def test_a_picture_upside_down_agrees_less(bench, painter, values) -> None:
    told = values(measure_maps(PART, bench(painter(lambda pixels, _: pixels.flip(1)))).report)
    assert told["map_agreement_ratio"] < 0.6


def test_sheets_show_the_map_in_colours(bench) -> None:
    given = measure_maps(PART, bench(count=2)).shown[0].given
    assert given.mode == "RGB" and len(given.getcolors()) == 3


def test_the_words_are_left_out_where_the_model_reads_none(bench) -> None:
    requests = []

    def draw(asked):
        requests.extend(asked)
        return torch.zeros(len(asked), 3, 32, 32)

    measure_maps(PART, bench(draw, words=False))
    assert all(set(said) == {"layout", "seed"} for said in requests)


def test_without_maps_nothing_is_measured(bench, scenery) -> None:
    scenery.maps[28:] = [None] * 7
    found = measure_maps(PART, bench())
    assert isinstance(found, LeftOut) and "validation" in found.reason
    scenery.maps[:] = [None] * 35
    found = measure_maps(PART, bench())
    assert isinstance(found, LeftOut) and "training" in found.reason


def test_a_model_of_other_classes_is_left_out(bench) -> None:
    assert isinstance(measure_maps(MapConditioner(("cat", "dog"), 2, None), bench()), LeftOut)


def test_classes_are_found_by_name() -> None:
    table = renumbering(["sky", "moss", "thing"], CLASSES)
    assert (table[:3].tolist(), table.shape, set(table[3:].tolist())) == ([1, 255, 0], (256,), {255})


def test_agreement_weighs_classes_alike() -> None:
    asked = torch.tensor([[0, 0, 0, 1]])
    counted = Agreement([0, 1, 2])
    counted.add(torch.tensor([[0, 0, 1, 1]]), asked)
    counted.add(torch.tensor([[0, 0, 0, 0]]), asked)

    assert class_accuracy(counted.counts()[:1]) == pytest.approx((2 / 3 + 1) / 2)
    assert class_accuracy(counted.counts()) == pytest.approx((5 / 6 + 1 / 2) / 2)


def test_pixels_of_large_pictures_are_classified_in_a_smaller_size(bench, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at = []
    monkeypatch.setattr(maps, "LOOKED_AT", 16)

    def add(self: Agreement, *both: torch.Tensor) -> None:
        looked_at.append(tuple(tuple(one.shape) for one in both))
        ADD(self, *both)

    monkeypatch.setattr(Agreement, "add", add)

    assert measure_maps(PART, bench()).report.map_agreement_real.value > 0.8
    assert set(looked_at) == {((16, 16), (16, 16))}
