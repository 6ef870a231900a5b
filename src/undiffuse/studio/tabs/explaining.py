"""Explain: how a picture came to be, measured while it is drawn, as a page of its own."""

from __future__ import annotations

import asyncio
import html
import os
import tempfile
from pathlib import Path
from typing import Any

import gradio as gr

from undiffuse.core.errors import UndiffuseError
from undiffuse.explain.pages import page_of
from undiffuse.explain.story import tell
from undiffuse.generation.generator import Generator
from undiffuse.studio.counter import Counter
from undiffuse.studio.fitting import fit
from undiffuse.studio.settings import Settings, request_of, same_seed, settings
from undiffuse.studio.showing import said, sentence

FRAME = '<iframe class="story" title="How the picture came to be" sandbox="allow-scripts" srcdoc="{}"></iframe>'


def tab(counter: Counter) -> Settings:
    """Put it on the page; its fields. While a picture is explained no other is drawn."""
    with gr.Row():
        with gr.Column(scale=4):
            instead = gr.Textbox(label="Another prompt for the same noise (empty: one is chosen)")
            fields = settings(counter, second_pass=False, several=False)
            draw = gr.Button("Explain", variant="primary", elem_classes="act-draw")
        with gr.Column(scale=8):
            shown = gr.HTML(
                "<p>One picture, from noise to the end: what every step did, what each word did, where it looked.</p>"
            )
            file = gr.File(label="The page, to keep", interactive=False, height=90)

    seed = gr.State(None)

    async def act(instead: str, *values: Any) -> tuple[str, str, int]:
        request, model = said(request_of, list(values))

        def explain_it(draw: Generator) -> str:
            return page_of(tell(draw, request.replace(count=1), instead=instead or None))

        try:
            page = await asyncio.wrap_future(counter.alone(model, explain_it))
        except UndiffuseError as error:
            raise sentence(error) from None
        kept = Path(os.environ.get("GRADIO_TEMP_DIR") or tempfile.gettempdir())
        kept.mkdir(parents=True, exist_ok=True)
        path = Path(tempfile.mkdtemp(prefix="explained-", dir=kept)) / "explained.html"
        path.write_text(page, encoding="utf-8")
        return FRAME.format(html.escape(page)), str(path), request.seed

    draw.click(act, [instead, *fields.inputs], [shown, file, seed])
    same_seed(fields, seed)
    fit(counter, fields)
    return fields
