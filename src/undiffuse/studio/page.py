"""The page: a head and the tabs."""

from __future__ import annotations

import html
from pathlib import Path

import gradio as gr

from undiffuse.core.version import VERSION
from undiffuse.studio.counter import Counter
from undiffuse.studio.fitting import fit_all
from undiffuse.studio.tabs import draw, enlarge, explaining, from_picture, gallery, grid, inpaint, paint, queue

DRAW = "draw"


def build_page(counter: Counter, folder: Path | None = None) -> gr.Blocks:
    """The page.

    Args:
        counter: what draws.
        folder: further pictures for the gallery.
    """
    with gr.Blocks(title="undiffuse studio", analytics_enabled=False, fill_width=False) as page:
        keys = "Ctrl+Enter draws, Escape stops"
        gr.HTML(f'<div class="head"><h1>undiffuse</h1><span>{html.escape(VERSION)} &middot; {keys}</span></div>', padding=False)
        with gr.Tabs(selected=DRAW) as tabs:
            with gr.Tab("Draw", id=DRAW):
                fields = [draw.tab(counter)]
            with gr.Tab("From a picture"):
                fields.append(from_picture.tab(counter))
            with gr.Tab("Inpaint"):
                fields.append(inpaint.tab(counter))
            with gr.Tab("Paint") as paint_tab:
                fields.append(paint.tab(counter, paint_tab))
            with gr.Tab("Enlarge"):
                fields.append(enlarge.tab(counter))
            with gr.Tab("X/Y grid"):
                fields.append(grid.tab(counter))
            with gr.Tab("Gallery") as gallery_tab:
                gallery.tab(counter, folder, gallery_tab, fields[0], lambda: gr.Tabs(selected=DRAW), tabs)
            with gr.Tab("Queue") as queue_tab:
                queue.tab(counter, queue_tab)
            with gr.Tab("Explain"):
                fields.append(explaining.tab(counter))
        fit_all(counter, page, fields)
    page.queue(default_concurrency_limit=8)
    return page
