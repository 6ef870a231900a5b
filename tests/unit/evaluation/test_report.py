"""Intervals against published ones, and how figures are told."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pytest

from undiffuse.core.errors import DataError
from undiffuse.evaluation.report import Figure, Report, bootstrap, mean, proportion


@dataclass(frozen=True)
class Both(Report):
    share: Figure
    signal_to_noise: Figure


# Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I, method 3.
@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_the_interval_of_a_share_is_the_published_one(hits: int, n: int, low: float, high: float) -> None:
    figure = proportion([True] * hits + [False] * (n - hits))

    assert figure.value == hits / n and figure.n == n
    assert figure.low == pytest.approx(low, abs=5e-5)
    assert figure.high == pytest.approx(high, abs=5e-5)


@pytest.mark.parametrize("n", [1, 2, 3, 7, 500, 501])
@pytest.mark.parametrize("hit", [False, True])
def test_the_interval_of_a_share_holds_it_and_stays_between_0_and_1(n: int, hit: bool) -> None:
    figure = proportion([hit] * n)

    assert 0 <= figure.low <= figure.value <= figure.high <= 1
    assert figure.low < figure.high


def test_the_interval_of_a_mean_is_that_of_its_standard_error() -> None:
    values = np.random.default_rng(3).normal(5, 2, 400)

    figure = mean(values.tolist())

    half = 1.96 * values.std() / 20
    assert figure.value == pytest.approx(values.mean())
    assert figure.n == 400
    assert figure.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert figure.high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_equal_values_have_no_spread() -> None:
    assert mean([0.25] * 7) == Figure(0.25, 7, 0.25, 0.25)


def test_the_same_values_give_the_same_interval() -> None:
    values = [0.1, 0.7, 0.3, 0.9]

    assert mean(values) == mean(values)


def test_any_statistic_gets_the_interval_that_the_mean_gets() -> None:
    values = np.random.default_rng(3).normal(5, 2, 50)

    assert bootstrap(50, lambda chosen: float(values[chosen].mean())) == mean(values.tolist())
    ratio = bootstrap(50, lambda chosen: float(values[chosen].sum() / (2 * values[chosen].sum())))
    assert (ratio.value, ratio.low, ratio.high) == pytest.approx((0.5, 0.5, 0.5))  # both sums are of the same pictures
    with pytest.raises(DataError, match="nothing was measured"):
        bootstrap(0, lambda chosen: 0.0)


@pytest.mark.parametrize("figure", [proportion, mean])
def test_nothing_measured_is_refused(figure) -> None:
    with pytest.raises(DataError, match="nothing was measured"):
        figure([])


def test_a_report_is_plain_data_and_a_table() -> None:
    report = Both(Figure(0.5, 4, 0.25, 0.75), Figure(30.0, 12, 29.5, 31.25))

    assert json.loads(json.dumps(report.to_json())) == {
        "share": {"value": 0.5, "n": 4, "low": 0.25, "high": 0.75},
        "signal_to_noise": {"value": 30.0, "n": 12, "low": 29.5, "high": 31.25},
    }
    lines = report.table().splitlines()
    assert len({len(line) for line in lines}) == 1
    assert [line.split()[-4:] for line in lines[1:]] == [["0.500", "0.250", "0.750", "4"], ["30.000", "29.500", "31.250", "12"]]
    assert lines[2].startswith("signal to noise ")


def test_a_figure_prints_its_interval_and_its_n() -> None:
    assert str(Figure(0.5, 4, 0.25, 0.75)) == "0.500 [0.250, 0.750], n = 4"
