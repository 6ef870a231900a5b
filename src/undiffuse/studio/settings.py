"""The settings of a drawing, which several tabs have: the fields on the page, and the request that they mean."""

from __future__ import annotations

import html
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from undiffuse.core.errors import DataError, SpecError, UsageError, explain
from undiffuse.diffusion.solvers.table import ENTRIES, find_solver
from undiffuse.generation.metadata import SCHEDULE_TYPES, parse_parameters
from undiffuse.generation.output import read_words
from undiffuse.generation.request import PICTURES, Request
from undiffuse.studio.counter import Counter
from undiffuse.studio.showing import said
from undiffuse.studio.wearing import wardrobe, wearable

NO_CLASS = ("no class", "")
OWN = "the solver's own"
SOLVERS = [entry.label for entry in ENTRIES if entry.name != "ddim_inverse"]
SPACINGS = [OWN, *dict.fromkeys(SCHEDULE_TYPES.values())]
ELSEWHERE = ("solver", "strength", *PICTURES)  # they have fields of their own, or are given on the page
NAMES = (
    "prompt", "negative", "model", "as_usual", "steps", "guidance", "solver", "spacing", "seed", "count", "width", "height",
    "label", "clip_skip", "hires", "hires_strength", "further",
)  # fmt: skip
"""What the fields are called, in the order in which their values come."""


@dataclass(frozen=True)
class Settings:
    """The fields of one tab by their names, and the button that asks for the seed of the last picture."""

    fields: dict[str, Any]
    same_seed: gr.Button

    @property
    def inputs(self) -> list[Any]:
        """The fields in the order of `NAMES`."""
        return [self.fields[name] for name in NAMES]


def settings(counter: Counter, second_pass: bool = True, several: bool = True) -> Settings:
    """Put the fields on the page, those that are changed often first; those of a second pass or of more pictures if wanted."""
    usual, models = Request(), counter.models()
    told: dict[str, Any] = {"prompt": gr.Textbox(label="Prompt", lines=3, autofocus=True, elem_classes="prompt")}
    told["negative"] = gr.Textbox(label="Negative prompt", lines=1)
    wardrobe(wearable(counter.loras()), told["prompt"])
    told["model"] = gr.Dropdown(models, value=models[0], label="Model", visible=len(models) > 1)
    told["as_usual"] = gr.Checkbox(True, label="Steps and guidance as is usual for the model", elem_classes="as-usual")
    with gr.Row(visible=False) as strengths:
        told["steps"] = gr.Slider(1, 150, usual.steps, step=1, label="Steps")
        told["guidance"] = gr.Slider(0, 20, usual.guidance, step=0.5, label="Guidance")
    told["as_usual"].change(lambda on: gr.Row(visible=not on), [told["as_usual"]], [strengths], show_progress="hidden")
    with gr.Row():
        # a text: Gradio's field of numbers shows 0 where it is empty at first, and browsers round what is above 2**53
        told["seed"] = gr.Textbox(label="Seed (empty: any)", placeholder="any", scale=2, min_width=120)
        with gr.Column(scale=1, min_width=120):
            any_seed = gr.Button("Any seed", size="sm")
            same_seed = gr.Button("Same seed", size="sm")
    told["count"] = gr.Slider(1, 16, 1, step=1, label="Pictures", visible=several)
    any_seed.click(lambda: "", None, [told["seed"]], show_progress="hidden")
    with gr.Accordion("More", open=False):
        with gr.Row():
            told["solver"] = gr.Dropdown(SOLVERS, value=find_solver(usual.solver)[0].label, label="Solver")
            told["spacing"] = gr.Dropdown(SPACINGS, value=OWN, label="Spacing")
        with gr.Row():
            told["width"] = gr.Number(0, label="Width (0: the model's)", precision=0, minimum=0, maximum=8192)
            told["height"] = gr.Number(0, label="Height (0: the model's)", precision=0, minimum=0, maximum=8192)
        with gr.Row():
            told["label"] = gr.Dropdown([NO_CLASS], value="", label="Class", allow_custom_value=True, visible=False)
            told["clip_skip"] = gr.Slider(1, 12, 1, step=1, label="Clip skip", visible=False)
        with gr.Row(visible=second_pass):
            told["hires"] = gr.Slider(1, 4, 1, step=0.25, label="Second pass, times")
            told["hires_strength"] = gr.Slider(0.05, 1, 0.7, step=0.05, label="Its strength")
        told["further"] = gr.Textbox(
            label="Further fields of the request, as JSON", placeholder='{"eta": 0.5}', elem_classes="further"
        )
    return Settings(told, same_seed)


def request_of(values: list[Any], **more: Any) -> tuple[Request, str | None]:
    """The request that the values of the fields mean, and the model's name; `more` are further fields of the request.

    Raises:
        SpecError: naming every wrong field.
    """
    told = dict(zip(NAMES, values, strict=True))
    labels = {label: name for name, label in reversed(SCHEDULE_TYPES.items())}
    hires = {"scale": told["hires"], "strength": told["hires_strength"]} if told["hires"] > 1 else None
    strengths = {} if told["as_usual"] else {"steps": int(told["steps"]), "guidance": told["guidance"]}
    fields: dict[str, Any] = {
        **strengths,
        "negative": told["negative"] or "",
        "label": told["label"] or None,
        "solver": told["solver"],
        "spacing": labels.get(told["spacing"]),
        "seed": _seed(told["seed"]),
        "count": int(told["count"]),
        "width": int(told["width"] or 0) or None,
        "height": int(told["height"] or 0) or None,
        "clip_skip": int(told["clip_skip"]),
        "hires": hires,
    }
    return Request(told["prompt"] or "", **{**fields, **_further(told["further"]), **more}), told["model"]


def same_seed(fields: Settings, last: Any) -> None:
    """Have the button put in the seed of the last picture: `last` holds what that tells, or a seed alone.

    Raises:
        gr.Error: when there is no picture yet.
    """
    fields.same_seed.click(lambda told: said(seed_of, told), [last], [fields.fields["seed"]], show_progress="hidden")


def seed_of(told: str | int | None) -> int:
    """The seed of a picture from its A1111 text, or as it is.

    Raises:
        UsageError: when there is none.
    """
    seed = parse_parameters(told).get("seed") if isinstance(told, str) else told
    if seed is None:
        raise UsageError(explain("no picture with a seed yet", "the last one's is taken", "draw one first"))
    return int(seed)


def _seed(told: str | int | None) -> int:
    """The seed that a field says; -1, which is any, where it is empty."""
    text = "" if told is None else str(told).strip()
    try:
        return int(text or -1)
    except ValueError:
        raise SpecError(explain(f"seed {text!r}", "a whole number is needed", "leave it empty for any")) from None


def _further(text: str | None) -> dict[str, Any]:
    try:
        found = json.loads(text or "{}")
    except ValueError as error:
        found = error
    if not isinstance(found, dict):
        given = f"further fields {text!r}"
        raise SpecError(explain(given, "a JSON object is needed", 'for instance {"eta": 0.5, "seeds": "webui-cpu"}'))
    return found


def values_if_told(path: str | Path | None) -> list[Any]:
    """What `values_of` says, and the fields as they are where a picture tells nothing, as most photos do."""
    try:
        return values_of(path) if path is not None else [gr.skip()] * len(NAMES)
    except DataError:
        return [gr.skip()] * len(NAMES)
    except SpecError as error:
        gr.Warning(html.escape(str(error)), title="Its settings cannot be taken")
        return [gr.skip()] * len(NAMES)


def values_of(path: str | Path) -> list[Any]:
    """What the fields must say to draw the picture in a file again; a `gr.skip()` where it tells nothing.

    Of pictures that it was started from files tell nothing: they are given on the page.

    Raises:
        DataError, SpecError: when it tells no request, or something that we do not have.
    """
    request = read_words(path)
    entry, _ = find_solver(request.solver)
    spacing = OWN if request.spacing is None else SCHEDULE_TYPES[request.spacing]
    told = {
        "prompt": request.prompt,
        "negative": request.negative,
        "model": gr.skip(),
        "as_usual": False,
        "steps": request.steps,
        "guidance": request.guidance,
        "solver": entry.label,
        "spacing": spacing,
        "seed": request.seed,
        "count": 1,
        "width": request.width or 0,
        "height": request.height or 0,
        "label": request.label or "",
        "clip_skip": request.clip_skip,
        "hires": 1 if request.hires is None else request.hires.scale,
        "hires_strength": 0.7 if request.hires is None else request.hires.strength,
    }
    page, _ = request_of([{**told, "model": None, "further": ""}[name] for name in NAMES])
    theirs, ours = request.model_dump(mode="json"), page.model_dump(mode="json")
    rest = {name: value for name, value in theirs.items() if value != ours[name] and name not in ELSEWHERE}
    told["further"] = json.dumps(rest) if rest else ""
    return [told[name] for name in NAMES]
