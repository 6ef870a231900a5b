"""Queue: jobs that are not finished, whoever asked for them."""

from __future__ import annotations

from typing import Any

import gradio as gr

from undiffuse.studio.counter import Counter, Waiting

EVERY = 1.0  # seconds
HEADERS = ["Job", "State", "Done", "Model", "Prompt", "Asked by"]
WIDTHS = [170, 90, 70, 130, 380, 100]  # pixels: on a phone the table scrolls
NOTHING = "Nothing waits."
FEW = 48  # letters of a prompt


def tab(counter: Counter, opened: gr.Tab) -> None:
    """Put it on the page; it looks again every second while it is seen."""
    words = gr.Markdown(NOTHING)
    shown: dict[str, Any] = {"interactive": False, "wrap": True, "column_widths": WIDTHS, "buttons": []}
    rows = gr.Dataframe(headers=HEADERS, label="Jobs", elem_classes="jobs", **shown)
    with gr.Row(equal_height=True):
        field = gr.Dropdown([], value=None, label="Job to stop", scale=4, min_width=320)
        stop = gr.Button("Stop it", scale=1, min_width=120)
        stop_all = gr.Button("Stop all", scale=1, min_width=120)
    listed, chosen = gr.State([]), gr.State(None)
    timer = gr.Timer(EVERY)

    def look(listed: list[str], chosen: str | None) -> tuple[Any, ...]:
        waiting = counter.waiting()
        told = f"{len(waiting)} {'job' if len(waiting) == 1 else 'jobs'}" if waiting else NOTHING
        jobs = [one.job for one in waiting]
        if jobs == listed:  # an open list must not be disturbed
            return told, waiting, gr.skip(), gr.skip(), gr.skip()
        kept = still(jobs, chosen)
        return told, waiting, gr.Dropdown(choices=[named(one) for one in waiting], value=kept), jobs, kept

    def end(name: str | None) -> str:
        return "Stopped." if name and counter.cancel(name) else "It is over already."

    def end_all() -> str:
        ended = [counter.cancel(one.job) for one in counter.waiting()]
        return f"{sum(ended)} stopped."

    outputs = [words, rows, field, listed, chosen]
    for event in (opened.select, timer.tick):
        event(look, [listed, chosen], outputs, show_progress="hidden")
    field.input(lambda name: name, [field], [chosen], show_progress="hidden")
    stop.click(end, [chosen], [words])
    stop_all.click(end_all, None, [words])


def named(job: Waiting) -> tuple[str, str]:
    """A job as a choice: what a user knows it by, and its name."""
    prompt = job.prompt if len(job.prompt) <= FEW else f"{job.prompt[:FEW].rstrip()}…"
    return f"{prompt or 'no words'} · {job.model} · {job.asked_by} · {job.job}", job.job


def still(jobs: list[str], chosen: str | None) -> str | None:
    """The chosen job while it is among these; else the first of them, if there is any."""
    return chosen if chosen in jobs else next(iter(jobs), None)
