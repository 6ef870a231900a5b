"""Explain: how a picture came to be, measured while it is drawn, as a page of its own."""

from __future__ import annotations

import asyncio
import html
import os
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import gradio as gr

from undiffuse.core.errors import Cancelled, UndiffuseError, explain
from undiffuse.explain.pages import page_of
from undiffuse.explain.story import tell
from undiffuse.generation.generator import Generator
from undiffuse.generation.request import Request
from undiffuse.studio.counter import Counter
from undiffuse.studio.fitting import fit
from undiffuse.studio.settings import Settings, request_of, same_seed, settings
from undiffuse.studio.showing import bar, buttons, said, sentence

FRAME = '<iframe class="story" title="How the picture came to be" sandbox="allow-scripts" srcdoc="{}"></iframe>'
GLANCE = 0.2  # seconds between two looks at how far it is


class Telling:
    """One explanation under way, done by the thread that draws, between the steps of jobs.

    The page sees how far it is, and may stop it.
    """

    def __init__(self, counter: Counter, request: Request, instead: str | None) -> None:
        self.counter = counter
        self.request = request
        self.instead = instead
        self.share = 0.0
        self.words = "waiting"
        self.stopped = False

    def __call__(self, draw: Generator) -> str:
        """The page.

        Raises:
            Cancelled: once it is stopped, between two steps.
        """

        def said(what: str, done: int, total: int) -> None:
            if self.stopped:
                raise Cancelled(explain("the explanation was stopped", "somebody asked to stop"))
            self.share, self.words = done / total, what
            self.counter.meanwhile(draw)

        return page_of(tell(draw, self.request, instead=self.instead, said=said))


def tab(counter: Counter) -> Settings:
    """Put it on the page; its fields."""
    with gr.Row():
        with gr.Column(scale=4):
            instead = gr.Textbox(label="Another prompt for the same noise (empty: one is chosen)")
            fields = settings(counter, second_pass=False, several=False)
            draw, cancel = buttons("Explain")
        with gr.Column(scale=8):
            shown = gr.HTML(
                "<p>One picture, from noise to the end: what every step did, what each word did, where it looked.</p>"
            )
            progress = gr.HTML(bar(0, ""), padding=False)
            file = gr.File(label="The page, to keep", interactive=False, height=90)

    seed = gr.State(None)

    async def act(instead: str, *values: Any) -> AsyncIterator[tuple[Any, ...]]:
        request, model = said(request_of, list(values))
        telling = Telling(counter, request.replace(count=1), instead or None)
        told = asyncio.wrap_future(said(counter.alone, model, telling))
        try:
            while not told.done():
                yield gr.skip(), bar(telling.share, telling.words), gr.skip(), gr.skip()
                await asyncio.wait([told], timeout=GLANCE)
            page = told.result()
        except UndiffuseError as error:
            raise sentence(error) from None
        finally:
            telling.stopped = True
            told.cancel()  # nothing happens to one that is over; one that has not begun never will
        path = await asyncio.to_thread(_keep, page)
        yield FRAME.format(html.escape(page)), bar(1, ""), str(path), request.seed

    event = draw.click(act, [instead, *fields.inputs], [shown, progress, file, seed], show_progress="hidden")
    ended = cancel.click(None, None, None, cancels=[event])
    ended.then(lambda: bar(0, "stopped"), None, [progress], show_progress="hidden")
    same_seed(fields, seed)
    fit(counter, fields)
    return fields


def _keep(page: str) -> Path:
    """Where a page lies for its reader to fetch."""
    folder = Path(os.environ.get("GRADIO_TEMP_DIR") or tempfile.gettempdir())
    folder.mkdir(parents=True, exist_ok=True)
    path = Path(tempfile.mkdtemp(prefix="explained-", dir=folder)) / "explained.html"
    path.write_text(page, encoding="utf-8")
    return path
