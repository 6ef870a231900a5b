"""Draw: a picture from words."""

from __future__ import annotations

import gradio as gr

from undiffuse.studio.counter import Counter
from undiffuse.studio.fitting import fit
from undiffuse.studio.settings import Settings, request_of, same_seed, settings
from undiffuse.studio.showing import buttons, connect, easel


def tab(counter: Counter) -> Settings:
    """Put it on the page; its fields, for whoever wants to fill them in."""
    with gr.Row():
        with gr.Column(scale=5):
            fields = settings(counter)
            press = buttons()
        with gr.Column(scale=6):
            on = easel(*press)
    same_seed(fields, on.told)
    fit(counter, fields)
    connect(counter, on, fields.inputs, lambda *values: request_of(list(values)))
    return fields
