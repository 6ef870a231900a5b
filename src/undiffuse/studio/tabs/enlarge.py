"""Enlarge: a small picture, with a model that learned to, or drawn on at a larger size by any other."""

from __future__ import annotations

from typing import Any

import gradio as gr
from PIL import Image

from undiffuse.generation.request import Request
from undiffuse.studio.counter import Counter, Facts
from undiffuse.studio.fitting import fit
from undiffuse.studio.opening import drop, opened
from undiffuse.studio.settings import Settings, request_of, same_seed, settings
from undiffuse.studio.showing import buttons, connect, easel


def tab(counter: Counter) -> Settings:
    """Put it on the page; its fields."""
    with gr.Row():
        with gr.Column(scale=5):
            picture = drop("Picture to enlarge")
            gr.Markdown("A model that learned to enlarge does so by its own factor. Any other draws on at the larger size:")
            with gr.Row():
                times = gr.Slider(1, 4, 2, step=0.25, label="Times larger")
                strength = gr.Slider(0.05, 1, 0.3, step=0.05, label="Strength")
            fields = settings(counter, second_pass=False)
            press = buttons("Enlarge")
        with gr.Column(scale=6):
            on = easel(*press)

    def asked(path: str | None, times: float, strength: float, *values: Any) -> tuple[Request, str | None]:
        image = opened(path, "one to enlarge")
        request, model = request_of(list(values))
        facts = counter.alone(model, Facts.of).result()
        if "small" in facts.reads:
            return request.replace(small=image), model
        unit = 64 if max(image.size) * times >= 256 else 16
        width, height = (max(unit, round(side * times / unit) * unit) for side in image.size)
        larger = image.resize((width, height), Image.Resampling.LANCZOS)
        return request.replace(image=larger, strength=strength, width=width, height=height), model

    same_seed(fields, on.told)
    fit(counter, fields)
    connect(counter, on, [picture, times, strength, *fields.inputs], asked)
    return fields
