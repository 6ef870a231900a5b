"""Fields that fit the model: the class and clip skip are seen where they are read, and the classes are those that it knows."""

from __future__ import annotations

import asyncio
from typing import Any

import gradio as gr

from undiffuse.core.errors import UndiffuseError
from undiffuse.studio.counter import Counter, Facts
from undiffuse.studio.settings import NO_CLASS, Settings
from undiffuse.studio.showing import sentence

FITTED = ("label", "clip_skip")
USUAL = {"label": "", "clip_skip": 1}
QUIET: dict[str, Any] = {"show_progress": "hidden", "concurrency_limit": None}


async def facts_of(counter: Counter, model: str | None) -> Facts:
    """What a model reads; it is loaded where it is not yet.

    Raises:
        gr.Error: with the sentence of any error of ours.
    """
    try:
        return await asyncio.wrap_future(await asyncio.to_thread(counter.alone, model, Facts.of))
    except UndiffuseError as error:
        raise sentence(error) from None


def kept(facts: Facts, label: str | None, clip_skip: float) -> dict[str, Any]:
    """Of what the fields say what a model has: a class that it knows, clip skip if it reads it; else the usual values."""
    known = {"label": label if label in facts.labels else "", "clip_skip": int(clip_skip)}
    return {name: known[name] if name in facts.reads else USUAL[name] for name in FITTED}


def seen(facts: Facts, told: dict[str, Any]) -> dict[str, bool]:
    """Which of the fields are to be seen: what the model reads, and what is said all the same, to be unsaid."""
    return {name: name in facts.reads or told[name] != USUAL[name] for name in FITTED}


def fitted(facts: Facts, told: dict[str, Any]) -> list[Any]:
    """The fields of `FITTED` with these values, for a model."""
    wanted = seen(facts, told)
    return [
        gr.Dropdown(choices=classes(facts), value=told["label"], visible=wanted["label"]),
        gr.Slider(value=told["clip_skip"], visible=wanted["clip_skip"]),
    ]


def fresh(facts: Facts) -> list[Any]:
    """The fields of `FITTED` as a model has them, whatever their values are."""
    wanted = seen(facts, USUAL)
    return [gr.Dropdown(choices=classes(facts), visible=wanted["label"]), gr.Slider(visible=wanted["clip_skip"])]


def classes(facts: Facts) -> list[tuple[str, str]]:
    """The classes that a model knows, as choices; none of them comes first."""
    return [NO_CLASS, *((label, label) for label in facts.labels)]


def fit(counter: Counter, fields: Settings) -> None:
    """Have the fields of a tab fit the model whenever another is chosen."""

    async def chosen(model: str | None, label: str | None, clip_skip: float) -> list[Any]:
        facts = await facts_of(counter, model)
        return fitted(facts, kept(facts, label, clip_skip))

    fields.fields["model"].change(chosen, *_ends(fields), **QUIET)


def fit_after(counter: Counter, fields: Settings, filled: Any) -> None:
    """Have them fit it after an event that filled them in; what it filled in stays."""

    async def look(model: str | None, label: str | None, clip_skip: float) -> list[Any]:
        return fitted(await facts_of(counter, model), {"label": label or "", "clip_skip": int(clip_skip)})

    filled.success(look, *_ends(fields), **QUIET)


def fit_all(counter: Counter, page: gr.Blocks, tabs: list[Settings]) -> None:
    """Have the fields of all tabs fit the first model when the page is opened; what is filled in by then stays."""

    async def opened() -> list[Any]:
        facts = await facts_of(counter, None)
        return [field for _ in tabs for field in fresh(facts)]

    outputs = [one.fields[name] for one in tabs for name in FITTED]
    page.load(opened, None, outputs, **QUIET)


def _ends(fields: Settings) -> tuple[list[Any], list[Any]]:
    """What is asked and what is changed."""
    told = [fields.fields[name] for name in FITTED]
    return [fields.fields["model"], *told], told
