"""`--set a.b=c`: what is understood, what is refused, what is suggested."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from undiffuse.core.errors import UsageError
from undiffuse.training.overrides import apply, is_known, known_keys, nearest
from undiffuse.training.recipe import Recipe

KEYS = known_keys(Recipe)


def applied(override: str, raw: dict[str, Any] | None = None) -> dict[str, Any]:
    raw = {} if raw is None else raw
    apply(raw, override, KEYS)
    return raw


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("run.steps=500", {"run": {"steps": 500}}),
        (" run . steps = 500 ", {"run": {"steps": 500}}),
        ("optimizer.rate=1e-4", {"optimizer": {"rate": 1e-4}}),
        ("run.compile=true", {"run": {"compile": True}}),
        ("optimizer.betas=[0.8, 0.9]", {"optimizer": {"betas": [0.8, 0.9]}}),
        ("optimizer.decay=cosine", {"optimizer": {"decay": "cosine"}}),
        ("objective.preview_prompts=['a fox', 'a boat']", {"objective": {"preview_prompts": ["a fox", "a boat"]}}),
        ("data.render={size = 64}", {"data": {"render": {"size": 64}}}),
        ("data.render.backgrounds.white=1", {"data": {"render": {"backgrounds": {"white": 1}}}}),
        ("conditioners.mask.shapes.box=2", {"conditioners": [{"kind": "mask", "shapes": {"box": 2}}]}),
    ],
)
def test_values_are_read_as_toml_where_that_is_possible(override: str, expected: dict[str, Any]) -> None:
    assert applied(override) == expected


@pytest.mark.parametrize("text", ["2024", "true", "my photos", "1e5", "a=b", "C:\\photos", "2024-05-01"])
def test_keys_that_hold_text_take_it_as_it_stands(text: str) -> None:
    assert applied(f"data.path={text}") == {"data": {"path": text}}
    assert applied(f"objective.start={text}") == {"objective": {"start": text}}


def test_quotes_around_text_are_taken_off() -> None:
    assert applied('data.path="my photos"') == {"data": {"path": "my photos"}}


def test_nothing_after_the_equals_sign_goes_back_to_the_default() -> None:
    raw = {"objective": {"start": "default", "drop": 0.1}}

    assert applied("objective.start=", raw) == {"objective": {"drop": 0.1}}


def test_a_table_that_was_left_out_is_made() -> None:
    assert applied("objective.perceptual.weight=0.2", {"objective": {"perceptual": None}}) == {
        "objective": {"perceptual": {"weight": 0.2}}
    }


@pytest.mark.parametrize("override", ["run.steps", "=5", "run.=5", ".steps=5", "", "run..steps=5"])
def test_the_form_is_told(override: str) -> None:
    with pytest.raises(UsageError, match=r"the form is a\.b=c.*for instance --set"):
        applied(override)


@pytest.mark.parametrize(
    ("override", "hint"),
    [
        ("run.stpes=5", "the nearest: run.steps"),
        ("steps=5", "the nearest: run.steps"),
        ("optimzer.rate=1", "the nearest: optimizer.rate"),
        ("learning_rate=1", "a recipe holds name, data, run"),
        ("run.batch_size=4", "the nearest: run.batch"),
    ],
)
def test_a_slip_is_answered_with_what_may_be_meant(override: str, hint: str) -> None:
    with pytest.raises(UsageError, match="there is no key") as caught:
        applied(override)
    assert hint in str(caught.value)


def test_a_value_is_not_taken_for_a_table() -> None:
    with pytest.raises(UsageError, match="run is a value, not a table"):
        applied("run.steps=5", {"run": 3})


def test_keys_of_both_objectives_and_of_optional_tables_are_known() -> None:
    for key in ("objective.crop", "objective.drop", "denoiser.widths", "objective.adversarial.start", "objective.law.kind"):
        assert is_known(key, KEYS)
    assert not is_known("data.render.captions.orders", {}) and not is_known("run.backgrounds.white", KEYS)


@given(st.sampled_from(sorted(KEYS)), st.data())
def test_a_dropped_letter_still_finds_the_key(key: str, data: st.DataObject) -> None:
    last = key.rpartition(".")[2]
    place = data.draw(st.integers(0, len(last) - 1))
    slip = key.removesuffix(last) + last[:place] + last[place + 1 :]

    if len(last) > 5 and slip not in KEYS:
        assert key in nearest(slip, KEYS)


def test_two_tables_of_one_kind_cannot_be_told_apart() -> None:
    raw = {"conditioners": [{"kind": "text", "drop": 0.1}, {"kind": "text", "drop": 0.2}]}
    with pytest.raises(UsageError, match=r"with 2 tables \[\[conditioners\]\] of kind 'text' in the recipe; one of a kind"):
        apply(raw, "conditioners.text.drop=0.5", KEYS)
