"""Inpaint: a part of a picture is drawn anew; every byte of the rest stays."""

from __future__ import annotations

from typing import Any

import gradio as gr

from undiffuse.generation.request import Request
from undiffuse.studio.counter import Counter
from undiffuse.studio.fitting import fit
from undiffuse.studio.masks import Canvas, edged, mask_of
from undiffuse.studio.settings import Settings, request_of, same_seed, settings
from undiffuse.studio.showing import buttons, connect, easel


def tab(counter: Counter) -> Settings:
    """Put it on the page; its fields."""
    with gr.Row():
        with gr.Column(scale=5):
            brush = gr.Brush(default_size=24, colors=["#e11d48"], default_color="#e11d48", color_mode="fixed")
            canvas = gr.ImageEditor(
                type="pil", format="png", label="Paint over what is to change", brush=brush, height=380,
                sources=["upload", "clipboard"], transforms=(), layers=False, elem_classes="canvas",
            )  # fmt: skip
            with gr.Row():
                strength = gr.Slider(0.05, 1, 1, step=0.05, label="Strength")
                grow = gr.Slider(0, 64, 0, step=1, label="Grow (pixels)")
                blur = gr.Slider(0, 64, 0, step=1, label="Soft edge (pixels)")
            fields = settings(counter, second_pass=False)
            press = buttons()
        with gr.Column(scale=6):
            on = easel(*press)

    def asked(canvas: Canvas | None, strength: float, grow: int, blur: float, *values: Any) -> tuple[Request, str | None]:
        picture, mask = mask_of(canvas)
        return request_of(list(values), image=picture, mask=edged(mask, grow, blur), strength=strength)

    same_seed(fields, on.told)
    fit(counter, fields)
    connect(counter, on, [canvas, strength, grow, blur, *fields.inputs], asked)
    return fields
