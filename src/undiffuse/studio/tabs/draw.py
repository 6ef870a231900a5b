"""Draw: a picture from words."""

from __future__ import annotations

import gradio as gr

from undiffuse.studio.counter import Counter
from undiffuse.studio.fitting import fit, fit_after
from undiffuse.studio.settings import Settings, request_of, same_seed, settings, values_of
from undiffuse.studio.showing import buttons, connect, easel, said


def tab(counter: Counter) -> Settings:
    """Put it on the page; its fields, for whoever wants to fill them in."""
    with gr.Row():
        with gr.Column(scale=5):
            fields = settings(counter)
            with gr.Accordion("Take the settings of a picture", open=False):
                file = gr.File(label="A PNG of any program that writes its settings", file_types=["image"], height=110)
            press = buttons()
        with gr.Column(scale=6):
            on = easel(*press)
    same_seed(fields, on.told)
    fit(counter, fields)
    connect(counter, on, fields.inputs, lambda *values: request_of(list(values)))
    filled = file.upload(lambda path: said(values_of, path), [file], fields.inputs)
    fit_after(counter, fields, filled)
    return fields
