"""Queue: jobs that are not finished, whoever asked for them."""

from __future__ import annotations

from typing import Any

import gradio as gr

from undiffuse.studio.counter import Counter, Waiting

EVERY = 1.0  # seconds
HEADERS = ["job", "state", "done", "model", "prompt", "asked by"]
NOTHING = "Nothing waits."


def tab(counter: Counter, opened: gr.Tab) -> None:
    """Put it on the page; it looks again every second while it is seen."""
    words = gr.Markdown(NOTHING)
    rows = gr.Dataframe(headers=HEADERS, interactive=False, label="Jobs", wrap=True, elem_classes="jobs")
    with gr.Row():
        job = gr.Dropdown([], label="Job", scale=4)
        stop = gr.Button("Stop it", scale=1)
        stop_all = gr.Button("Stop all", scale=1)
    timer = gr.Timer(EVERY)

    def look() -> tuple[str, list[Waiting], Any]:
        waiting = counter.waiting()
        told = f"{len(waiting)} {'job' if len(waiting) == 1 else 'jobs'}" if waiting else NOTHING
        return told, waiting, gr.Dropdown(choices=[one.job for one in waiting])

    def end(name: str | None) -> str:
        return "Stopped." if name and counter.cancel(name) else "It is over already."

    def end_all() -> str:
        ended = [counter.cancel(one.job) for one in counter.waiting()]
        return f"{sum(ended)} stopped."

    outputs = [words, rows, job]
    opened.select(look, None, outputs, show_progress="hidden")
    timer.tick(look, None, outputs, show_progress="hidden")
    stop.click(end, [job], [words])
    stop_all.click(end_all, None, [words])
