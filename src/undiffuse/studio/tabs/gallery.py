"""Gallery: what was drawn here, and a folder of the user's, searched by what pictures tell, and drawn again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr

from undiffuse.core.errors import UsageError, explain
from undiffuse.studio.counter import Counter
from undiffuse.studio.fitting import fit_after
from undiffuse.studio.searching import pictures_in, search, small, telling
from undiffuse.studio.settings import Settings, values_of
from undiffuse.studio.showing import said

SHOWN = 120


def tab(counter: Counter, folder: Path | None, opened: gr.Tab, fields: Settings, go: Callable[[], Any], tabs: gr.Tabs) -> None:
    """Put it on the page; "draw again" fills in `fields` and goes to their tab."""
    with gr.Row():
        words = gr.Textbox(label="Search in what pictures tell", placeholder="fox euler", scale=5, min_width=320)
        look = gr.Button("Look again", scale=1, min_width=120)
        again = gr.Button("Draw it again", variant="primary", scale=1, min_width=120)
    gallery = gr.Gallery(
        label="Pictures",
        columns=6,
        height=430,
        fit_columns=False,
        allow_preview=False,
        interactive=False,
        elem_classes="library",
        buttons=["fullscreen"],
    )
    count = gr.Markdown("")
    told = gr.Textbox(label="What the picture tells", lines=4, interactive=False)
    chosen, listed = gr.State(None), gr.State([])

    def found(words: str) -> tuple[list[Any], str, str, None, list[Path]]:
        paths = counter.pictures(2000) + (pictures_in(folder) if folder is not None else [])
        hits = search(paths, words or "")
        more = f", the newest {SHOWN} of them shown" if len(hits) > SHOWN else ""
        seen = hits[:SHOWN]
        return [small(path) for path in seen], f"{len(hits)} of {len(paths)} pictures{more}", "", None, seen

    def choose(seen: list[Path], event: gr.SelectData) -> tuple[str, Path | None]:
        if not isinstance(event.index, int) or event.index >= len(seen):
            return "", None
        return telling(seen[event.index]), seen[event.index]

    def fill(path: Path | None) -> list[Any]:
        if path is None:
            raise UsageError(explain("no picture is chosen", "one is drawn again", "click on one"))
        return [*values_of(path), go()]

    outputs = [gallery, count, told, chosen, listed]
    events = [opened.select, look.click, words.submit, words.change]
    gr.on(events, found, [words], outputs, show_progress="hidden", trigger_mode="always_last")  # one by one: the last one stays
    gallery.select(choose, [listed], [told, chosen], show_progress="hidden")
    filled = again.click(lambda path: said(fill, path), [chosen], [*fields.inputs, tabs])
    fit_after(counter, fields, filled)
