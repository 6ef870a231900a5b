"""Ranks and distances by hand."""

from __future__ import annotations

import pytest
import torch

from undiffuse.data.records import Row
from undiffuse.evaluation.references import (
    References,
    concept_ranks,
    directions_of,
    nearer_than_variants,
    nearest_trained,
    ranks,
    read_references,
)


def references(concepts: list[str], splits: list[str] | None = None) -> References:
    rows = [
        Row(str(i), "", split=split, fields={"concept": concept, "style": "flat"})
        for i, (concept, split) in enumerate(zip(concepts, splits or ["train"] * len(concepts), strict=True))
    ]
    return References(torch.zeros(2), torch.eye(len(concepts), 2).double(), rows, list(range(len(rows))))


def test_a_concept_scores_by_its_most_similar_picture() -> None:
    known = references(["fox", "owl", "fox", "boat"])
    cosines = torch.tensor([[0.1, 0.5, 0.9, 0.2], [0.3, 0.5, -0.9, 0.2], [-0.1, 0.5, 0.0, 0.2]])

    assert concept_ranks(cosines, known, ["fox", "fox", "fox"]) == [0, 1, 2]


def test_all_negative_scores_are_ranked_too() -> None:
    assert concept_ranks(torch.tensor([[-0.9, -0.1, -0.5]]), references(["fox", "owl", "boat"]), ["boat"]) == [1]


def test_ties_count_against_the_model() -> None:
    known = references(["fox", "owl", "boat"])

    assert concept_ranks(torch.full((1, 3), 0.5), known, ["fox"]) == [2]
    assert concept_ranks(torch.tensor([[0.5, 0.5, 0.4]]), known, ["fox"]) == [1]


def test_no_number_is_the_last() -> None:
    assert concept_ranks(torch.full((1, 3), torch.nan), references(["fox", "owl", "boat"]), ["fox"]) == [2]


def test_names_need_no_rows() -> None:
    assert ranks(torch.tensor([[0.1, 0.5, 0.9], [0.1, 0.5, 0.4]]), ["b", "a", "b"], ["b", "b"]) == [0, 1]


def test_directions_are_about_the_mean() -> None:
    known = directions_of(torch.tensor([[1.0, 1], [3, 1], [2, 4]]))

    assert known.mean.tolist() == [2, 2]
    assert torch.allclose(known.directions.norm(dim=1), torch.ones(3).double())
    assert known.cosines(torch.tensor([[2.0, 7]])).argmax().item() == 2
    assert known.cosines(torch.tensor([[2.0, 7]]))[0, 2].item() == pytest.approx(1)


def test_only_training_pictures_count_as_near() -> None:
    known = references(["fox", "owl", "boat"], ["val", "train", "train"])
    cosines = torch.tensor([[1.0, 0.25, -1.0], [0.0, -1.0, -1.0], [0.3, 1.0, 0.0]])

    assert nearest_trained(cosines, known) == pytest.approx([0.75, 2, 0])


def test_cosines_are_about_the_mean_of_the_references(hues, mean_colour) -> None:
    known = read_references(hues, mean_colour, size=16, batch=5, progress=lambda done, total, what: None)

    features = torch.stack([torch.tensor(image.getpixel((0, 0))) / 127.5 - 1 for image in hues.images]).double()
    centred = features - features.mean(dim=0)
    expected = torch.nn.functional.cosine_similarity(centred[:, None], centred[None], dim=2)
    assert torch.allclose(known.cosines(features), expected, atol=1e-5)
    assert known.concepts == [row.fields["concept"] for row in hues.rows]


def test_pictures_that_tell_no_pair_are_no_references(hues, mean_colour) -> None:
    hues.rows[3] = Row("untold", "a photo")
    told: list[tuple[int, int, str]] = []

    known = read_references(hues, mean_colour, size=16, batch=10, progress=lambda *step: told.append(step))

    assert known.indices == [i for i in range(16) if i != 3]
    assert told == [(10, 15, "real pictures"), (15, 15, "real pictures")]


def test_a_copy_is_nearer_than_another_picture_of_the_same_thing() -> None:
    turns = torch.tensor([0.0, 0.5, 2.0, 3.0])  # of a circle, in radians: two foxes, a boat, a fox that is held out
    rows = references(["fox", "fox", "boat", "fox"], ["train", "train", "train", "val"]).rows
    directions = torch.stack([turns.cos(), turns.sin()], dim=1).double()
    known = References(torch.zeros(2), directions, rows, [0, 1, 2, 3])
    asked = torch.tensor([0.1, -0.4, -0.6, 2.1])
    queries = torch.stack([asked.cos(), asked.sin()], dim=1).double()

    # The last one is nearest to the boat, of which there is no other picture: it is compared with the foxes.
    assert nearer_than_variants(queries @ known.directions.T, known) == [True, True, False, True]
