"""Two drawings part where the first thing that differs acts first."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from undiffuse.checkpoints.api import load_model
from undiffuse.explain.causes import ACTS_ON, causes
from undiffuse.explain.compare import compare, region_of
from undiffuse.explain.recording import record
from undiffuse.explain.trace import Trace
from undiffuse.generation.generator import Generator
from undiffuse.generation.output import Origin, told_of
from undiffuse.generation.request import PICTURES, Request

ASKED = Request("a fox", seed=3, steps=4, solver="ddim", width=16, height=16)


@pytest.fixture(scope="module")
def ours(draw: Generator) -> Trace:
    return record(draw, ASKED)


@pytest.mark.parametrize(
    ("changed", "quantity", "step"),
    [
        ({"seed": 4}, "x", 0),
        ({"steps": 5}, "level", 1),
        ({"spacing": "karras"}, "level", 1),
        ({"prompt": "a boat"}, "conditional", 0),
        ({"negative": "red"}, "unconditional", 0),
        ({"label": "fox"}, "conditional", 0),
        ({"guidance": 3.0}, "x0", 0),
        ({"guidance_rescale": 0.5}, "x0", 0),
        ({"eta": 1.0}, "x", 1),
        ({"solver": "dpmpp_2m"}, "x", 2),  # its first step is that of DDIM
        ({"width": 24}, "x", 0),
    ],
)
def test_what_differs_is_found_where_it_acts(
    changed: dict[str, Any], quantity: str, step: int, ours: Trace, draw: Generator
) -> None:
    found = compare(ours, record(draw, ASKED.replace(**changed)))

    assert found.parting is not None and found.cause is not None
    assert (found.parting.quantity, found.parting.step) == (quantity, step)
    assert found.cause.name == next(iter(changed)) and found.causes == [found.cause]
    assert found.cause.now == next(iter(changed.values()))
    assert found.parting.by > 0 and not found.same
    assert (found.parting.layer is not None) == (quantity == "conditional")
    assert (found.psnr is None) == ("width" in changed)


def test_the_same_drawing_parts_nowhere(ours: Trace, draw: Generator) -> None:
    found = compare(ours, record(draw, ASKED))
    assert found.same and found.parting is None and found.cause is None and found.causes == [] and found.visible is None
    assert found.rows == [(0.0, 0.0)] * 4


def test_another_precision_is_rounding_at_first(tiny_folder: Path, ours: Trace) -> None:
    theirs = record(Generator(load_model(tiny_folder), device="cpu", precision="bf16", tell=None), ASKED)
    found = compare(ours, theirs)
    assert found.cause is not None and found.parting is not None
    assert (found.cause.name, found.cause.before, found.cause.now) == ("precision", "fp32", "bf16")
    assert found.parting.quantity == "unconditional" and found.parting.by < 0.2


def test_a_change_that_nobody_told_has_no_cause(ours: Trace) -> None:
    moved = ours.tensors["x0"].clone()
    moved[2, :, 1, 1] += 1
    found = compare(ours, replace(ours, tensors={**ours.tensors, "x0": moved}))
    assert found.parting is not None and found.cause is None
    assert (found.parting.step, found.parting.quantity, found.visible) == (2, "x0", 2)
    assert found.parting.region is not None and found.parting.region.box == (1 / 8, 1 / 8, 2 / 8, 2 / 8)
    assert str(found.parting.region).startswith("top left")


def test_a_region_holds_most_of_a_difference() -> None:
    difference = torch.zeros(2, 6, 12)
    difference[:, 4:6, 9:12] = 1
    difference[0, 0, 0] = 0.5
    assert region_of(difference).box == (9 / 12, 4 / 6, 1.0, 1.0)
    assert str(region_of(torch.ones(1, 8, 8) + torch.eye(8))) == "everywhere"


def test_every_field_of_a_request_is_known_to_act_somewhere() -> None:
    fields = {name for name in Request.model_fields if name != "count"}
    assert fields <= ACTS_ON.keys() and set(PICTURES) <= ACTS_ON.keys()


def test_causes_are_told_by_name_what_matters_most_first() -> None:
    one = told_of(ASKED, Origin("a", "1", "cpu", "fp32"))
    other = told_of(ASKED.replace(seed=4, context={"weather": "rain"}), Origin("a", "2", "cpu", "bf16"))
    found = causes(one, other)
    assert [cause.name for cause in found] == ["model", "seed", "precision", "context.weather"]
    assert str(found[0]) == "model: 'a (1)' against 'a (2)'" and str(found[3]) == "context.weather: none against 'rain'"


def test_a_lora_is_a_cause() -> None:
    worn = ({"kind": "lora", "name": "ink", "hash": "0123456789abcdef", "weight": 0.5, "text_weight": 0.5},)
    plain, inked = (
        told_of(ASKED, Origin("a", "1", "cpu", "fp32")),
        told_of(ASKED, Origin("a", "1", "cpu", "fp32", additions=worn)),
    )  # type: ignore[arg-type]
    (cause,) = causes(plain, inked)
    assert str(cause) == "additions: none against <lora:ink:0.5> (0123456789ab)"
    assert cause.can_act_on("conditional") and not cause.can_act_on("level")
