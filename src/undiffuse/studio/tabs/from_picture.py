"""From a picture: another one that keeps what it shows, more or less."""

from __future__ import annotations

from typing import Any

import gradio as gr

from undiffuse.generation.request import Request
from undiffuse.studio.counter import Counter
from undiffuse.studio.fitting import fit, fit_after
from undiffuse.studio.opening import drop, opened
from undiffuse.studio.settings import Settings, request_of, same_seed, settings, values_if_told
from undiffuse.studio.showing import buttons, connect, easel


def tab(counter: Counter) -> Settings:
    """Put it on the page; its fields, which a picture that tells its settings fills in."""
    with gr.Row():
        with gr.Column(scale=5):
            picture = drop("Picture to start from")
            strength = gr.Slider(0.05, 1, 0.6, step=0.05, label="Strength: how far to leave it")
            fields = settings(counter, second_pass=False)
            press = buttons()
        with gr.Column(scale=6):
            on = easel(*press)

    def asked(path: str | None, strength: float, *values: Any) -> tuple[Request, str | None]:
        image = opened(path, "one to start from")
        return request_of(list(values), image=image, strength=strength, sketch=None)

    same_seed(fields, on.told)
    fit(counter, fields)
    connect(counter, on, [picture, strength, *fields.inputs], asked)
    filled = picture.upload(values_if_told, [picture], fields.inputs, show_progress="hidden")
    fit_after(counter, fields, filled)
    return fields
