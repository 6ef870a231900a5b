"""A classifier in closed form, against answers that are known."""

from __future__ import annotations

import pytest
import torch

from undiffuse.core.errors import DataError
from undiffuse.core.random import normal
from undiffuse.evaluation.contexts.pixels import fit_pixels, local_features

MEANS = torch.tensor([[2.0, 0, 0], [0, 2, 0], [0, 0, 2]])


def cloud(labels: torch.Tensor, spread: float, name: str) -> torch.Tensor:
    """Features (B, 3, H, W) about the mean of each class, far more spread along one direction than along others."""
    noise = spread * normal((*labels.shape, 3), name) + 10 * spread * normal((*labels.shape, 1), name, "along")
    return (MEANS[labels.clamp(max=2)] + noise).movedim(-1, 1)


def test_the_rule_is_that_of_the_closed_form() -> None:
    labels = torch.arange(3).repeat_interleave(400).view(3, 20, 20)
    features = cloud(labels, 0.3, "train")
    rule = fit_pixels([(features[:1], labels[:1]), (features[1:], labels[1:])], 3)

    rows = features.movedim(1, -1).reshape(3, 400, 3).double()
    means = rows.mean(dim=1)
    within = torch.stack([torch.cov(some.T, correction=0) for some in rows]).mean(dim=0)
    within += 1e-3 * within.diagonal().mean() * torch.eye(3)
    weights = means @ torch.linalg.inv(within)
    assert torch.allclose(rule.weights, weights)
    assert torch.allclose(rule.offsets, -(weights * means).sum(dim=1) / 2)


def test_spread_along_one_direction_does_not_matter() -> None:
    labels = torch.arange(3).repeat_interleave(400).view(3, 20, 20)
    rule = fit_pixels([(cloud(labels, 0.2, "train"), labels)], 3)
    assert (rule(cloud(labels, 0.2, "test")) == labels).float().mean() > 0.97


def test_unsaid_pixels_and_missing_classes_have_no_say() -> None:
    labels = torch.tensor([0, 2, 255, 255]).repeat_interleave(100).view(4, 10, 10)
    features = cloud(labels, 0.1, "train")
    rule = fit_pixels([(features, labels)], 3)

    alone = fit_pixels([(features[:2], labels[:2])], 3)
    assert torch.equal(rule.weights, alone.weights)
    assert rule.known.tolist() == [True, False, True]
    assert set(rule(features).unique().tolist()) == {0, 2}


def test_a_rare_class_is_as_likely_as_a_frequent_one() -> None:
    many, few = torch.zeros(1, 40, 40, dtype=torch.long), torch.ones(1, 2, 40, dtype=torch.long)
    labels = torch.cat([many, few], dim=1)
    rule = fit_pixels([(cloud(labels, 0.5, "train"), labels)], 2)
    found = rule(cloud(torch.cat([few, 1 - few], dim=1), 0.5, "test"))
    assert (found[:, :2] == 1).float().mean() > 0.8 and (found[:, 2:] == 0).float().mean() > 0.8


def test_nothing_to_learn_is_refused() -> None:
    with pytest.raises(DataError, match="no pixel of the maps has a class"):
        fit_pixels([(torch.zeros(1, 3, 2, 2), torch.full((1, 2, 2), 255))], 3)


def test_features_tell_colour_and_texture_but_not_place(bench) -> None:
    grey = torch.zeros(1, 3, 64, 64)
    checks = (torch.arange(64)[:, None] + torch.arange(64)) % 2 * 1.0 - 0.5
    extractor = bench().extractor
    flat, rough = (local_features(pixels, extractor) for pixels in (grey, (grey + checks).clamp(-1, 1)))

    assert flat.shape == rough.shape == (1, 3 * 5 + 3, 64, 64)
    middle = flat[0, :, 20:44, 20:44]
    assert torch.allclose(middle, middle[:, :1, :1].expand_as(middle), atol=1e-6)
    deviation = slice(6, 9)  # colour, its mean, its deviation
    assert flat[:, deviation].max() < 1e-6 and rough[:, 6, 20:44, 20:44].min() > 0.1
    assert (rough[:, deviation] >= 0).all() and torch.isfinite(rough).all()
