"""X/Y grid: one picture over and over, with one or two things changed, on one sheet."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import gradio as gr
from PIL import Image

from undiffuse.core.errors import UndiffuseError
from undiffuse.generation.request import Request
from undiffuse.studio.axes import CHOICES, LORA, STRENGTH, cells, sheet, values_on
from undiffuse.studio.counter import Counter
from undiffuse.studio.fitting import fit
from undiffuse.studio.opening import drop, opened
from undiffuse.studio.settings import Settings, request_of, same_seed, settings
from undiffuse.studio.showing import bar, buttons, said, sentence

Drawn = dict[int, Image.Image]
"""The pictures of a grid that are finished, by their cells, row by row."""
Axis = tuple[str, list[str]]
SHEET: dict[str, Any] = {"elem_classes": "sheet", "buttons": ["download", "fullscreen"]}


def tab(counter: Counter) -> Settings:
    """Put it on the page; its fields."""
    choices = [one for one in CHOICES if one != LORA or counter.loras()]
    with gr.Row():
        with gr.Column(scale=5):
            with gr.Row():
                across = gr.Dropdown(choices, value="guidance", label="Across", scale=2)
                columns = gr.Textbox("2, 4, 7", label="Values across", scale=3)
            with gr.Row():
                down = gr.Dropdown(choices, value="seed", label="Down", scale=2)
                rows = gr.Textbox("1-3", label="Values down", scale=3)
            start = drop("Picture to start from", visible=False)
            fields = settings(counter, several=False)
            draw, cancel = buttons("Draw the grid")
        with gr.Column(scale=6):
            shown = gr.Image(label="Sheet", type="pil", format="png", height=520, interactive=False, **SHEET)
            progress = gr.HTML(bar(0, ""), padding=False)

    seed, hung = gr.State(None), gr.State(None)

    def asked(x: str, y: str, path: str | None, *values: Any) -> tuple[Request, str | None]:
        more = {"image": opened(path, "where strength is an axis one to start from")} if STRENGTH in (x, y) else {}
        return request_of(list(values), **more)

    def stop(hung: tuple[Drawn, Axis, Axis] | None) -> tuple[Any, str]:
        return so_far(*hung) if hung is not None and hung[0] else gr.skip(), bar(0, "stopped")

    async def act(x: str, columns: str, y: str, rows: str, *values: Any) -> AsyncIterator[tuple[Any, ...]]:
        request, model = said(asked, x, y, *values)
        first = (x, said(values_on, x, columns))
        second = (y, said(values_on, y, rows))
        wanted = said(cells, request, first, second)
        drawn: Drawn = {}
        yield gr.skip(), bar(0, "waiting"), request.seed, (drawn, first, second)
        tasks = [asyncio.create_task(_draw(counter, one, model, k, drawn)) for k, one in enumerate(wanted)]
        try:
            for done in asyncio.as_completed(tasks):
                await done
                yield gr.skip(), bar(len(drawn) / len(wanted), f"{len(drawn)} of {len(wanted)}"), gr.skip(), gr.skip()
        except UndiffuseError as error:
            raise sentence(error) from None
        finally:
            for task in tasks:
                task.cancel()
        yield so_far(drawn, first, second), bar(1, ""), gr.skip(), None

    event = draw.click(
        act, [across, columns, down, rows, start, *fields.inputs], [shown, progress, seed, hung], show_progress="hidden"
    )
    ended = cancel.click(None, None, None, cancels=[event])
    ended.then(stop, [hung], [shown, progress], show_progress="hidden")
    for axis in (across, down):
        axis.change(lambda x, y: gr.Image(visible=STRENGTH in (x, y)), [across, down], [start], show_progress="hidden")
    same_seed(fields, seed)
    fit(counter, fields)
    return fields


def so_far(drawn: Drawn, across: Axis, down: Axis) -> Image.Image:
    """The sheet of a grid of which these cells are drawn."""
    return sheet([drawn.get(k) for k in range(len(across[1]) * len(down[1]))], across, down)


async def _draw(counter: Counter, request: Request, model: str | None, place: int, drawn: Drawn) -> None:
    async with aclosing(counter.draw(request, model)) as steps:  # type: ignore[type-var]
        *_, last = [shown async for shown in steps]
    with Image.open(last.files[0]) as image:
        drawn[place] = image.convert("RGB")
