"""Paint: a map of what stands where, in the colours of the classes that a model has learned."""

from __future__ import annotations

import html
from typing import Any

import gradio as gr

from undiffuse.conditioners.palette import colours as palette
from undiffuse.conditioners.palette import hexadecimal
from undiffuse.core.errors import SpecError, explain
from undiffuse.generation.request import Request
from undiffuse.studio.counter import Counter, Facts
from undiffuse.studio.fitting import QUIET, facts_of, fit
from undiffuse.studio.masks import Canvas, painting_of
from undiffuse.studio.settings import Settings, request_of, same_seed, settings
from undiffuse.studio.showing import buttons, connect, easel

LOOKING = "Looking what the model reads …"
SIDE = 512  # of the canvas
UNREAD = "This model has not learned semantic maps: choose another, or train one with a conditioner of kind 'map'."


def tab(counter: Counter, tab_of: gr.Tab) -> Settings:
    """Put it on the page; its fields. The colours are those of the model that is chosen when the tab is opened, or later."""
    with gr.Row():
        with gr.Column(scale=5):
            swatches = gr.HTML(f"<div class='swatches'>{LOOKING}</div>", padding=False)
            canvas = gr.ImageEditor(
                type="pil", format="png", label="Paint what stands where", brush=_brush([]), height=420,
                canvas_size=(SIDE, SIDE), fixed_canvas=True, sources=[], transforms=(), layers=False, elem_classes="canvas",
            )  # fmt: skip
            fields = settings(counter, second_pass=False)
            press = buttons()
        with gr.Column(scale=6):
            on = easel(*press)

    async def colours(model: str | None) -> tuple[str, Any]:
        facts = await facts_of(counter, model)
        if not facts.classes:
            return f"<div class='swatches'>{html.escape(UNREAD)}</div>", gr.skip()
        named = {name: hexadecimal(colour) for name, colour in zip(facts.classes, palette(facts.classes), strict=True)}
        rows = "".join(f"<span><i style='background:{colour}'></i>{html.escape(name)}</span>" for name, colour in named.items())
        return f"<div class='swatches'>{rows}</div>", gr.ImageEditor(brush=_brush(list(named.values())))

    def asked(canvas: Canvas | None, *values: Any) -> tuple[Request, str | None]:
        request, model = request_of(list(values))
        facts = counter.alone(model, Facts.of).result()
        if "layout" not in facts.reads:
            raise SpecError(explain("a painting", UNREAD, "name another model"))
        return request.replace(layout=painting_of(canvas)), model

    for event in (tab_of.select, fields.fields["model"].change):
        event(colours, [fields.fields["model"]], [swatches, canvas], **QUIET)
    same_seed(fields, on.told)
    fit(counter, fields)
    connect(counter, on, [canvas, *fields.inputs], asked)
    return fields


def _brush(colours: list[str]) -> gr.Brush:
    shown: list[Any] = colours or ["#64748b"]
    return gr.Brush(default_size=48, colors=shown, default_color=shown[0], color_mode="fixed")
