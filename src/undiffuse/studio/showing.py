"""Drawing on the page: buttons, live previews, finished pictures with what they tell, and errors in a sentence."""

from __future__ import annotations

import asyncio
import html
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from undiffuse.core.errors import UndiffuseError
from undiffuse.generation.request import Request
from undiffuse.studio.counter import Counter, Shown

TELLS = "parameters"  # the chunk of a PNG
Asked = Callable[..., tuple[Request, str | None]]
"""From the values on a tab to a request and the name of a model."""


@dataclass(frozen=True)
class Easel:
    """Where a tab shows its pictures: the gallery, the line below it, and what the chosen picture tells."""

    gallery: gr.Gallery
    progress: gr.HTML
    told: gr.Textbox
    draw: gr.Button
    cancel: gr.Button
    finished: gr.State

    @property
    def outputs(self) -> list[Any]:
        """What a drawing changes; the files that are finished are kept for when it is stopped."""
        return [self.gallery, self.progress, self.told, self.finished]


def buttons(words: str = "Draw") -> tuple[gr.Button, gr.Button]:
    """The button that draws, and the one that stops it; Ctrl+Enter and Escape press those of the tab that is seen."""
    with gr.Row():
        draw = gr.Button(words, variant="primary", elem_classes="act-draw", scale=3, min_width=120)
        cancel = gr.Button("Stop", elem_classes="act-cancel", scale=1, min_width=80)
    return draw, cancel


def easel(draw: gr.Button, cancel: gr.Button) -> Easel:
    """Put the gallery and what belongs to it on the page."""
    shown: dict[str, Any] = {"buttons": ["download", "fullscreen"], "interactive": False, "preview": True}
    gallery = gr.Gallery(label="Pictures", columns=2, height=460, elem_classes="easel", **shown)
    progress = gr.HTML(bar(0, ""), padding=False)
    told = gr.Textbox(label="What the picture tells", lines=3, interactive=False)
    return Easel(gallery, progress, told, draw, cancel, gr.State([]))


def connect(counter: Counter, on: Easel, inputs: list[Any], asked: Asked, then: Callable[[Any], None] | None = None) -> None:
    """Have the buttons of a tab draw what `asked` makes of its values."""

    async def act(*values: Any) -> AsyncIterator[tuple[Any, ...]]:
        request, model = await asyncio.to_thread(said, asked, *values)  # it may wait for a model
        async with aclosing(follow(counter, request, model)) as steps:  # type: ignore[type-var]
            async for step in steps:
                yield step

    drawn = on.draw.click(act, inputs, on.outputs, concurrency_limit=None, show_progress="hidden")
    ended = on.cancel.click(None, None, None, cancels=[drawn])  # first, or its last step would come after what follows
    ended.then(stopped, [on.finished], on.outputs[:3], show_progress="hidden")
    on.gallery.select(tells, [on.gallery], [on.told], show_progress="hidden")
    if then is not None:
        then(drawn)


async def follow(counter: Counter, request: Request, model: str | None) -> AsyncIterator[tuple[Any, ...]]:
    """What the outputs of an easel show, step by step; pictures that are finished stay when others of the job fail.

    Raises:
        gr.Error: with the sentence of any error of ours, if no picture is finished.
    """
    yield gr.skip(), bar(0, "waiting"), "", []
    shown, last = Shown("", 0), None
    try:
        async with aclosing(counter.draw(request, model)) as steps:  # type: ignore[type-var]
            async for shown in steps:
                fresh = shown.preview is not None and shown.preview is not last and not shown.over
                last = shown.preview
                pictures = [*map(str, shown.files), shown.preview] if fresh else gr.skip()
                words = "" if shown.over else f"{shown.share:.0%}"
                yield pictures, bar(shown.share, words), gr.skip(), list(shown.files)
    except UndiffuseError as error:
        if not shown.files:
            raise sentence(error) from None
        gr.Warning(html.escape(str(error)), title="Not all were drawn")
        yield *stopped(list(shown.files)), list(shown.files)
        return
    yield *_hung(shown.files), list(shown.files)


def stopped(files: list[Path]) -> tuple[Any, Any, Any]:
    """What is seen of a job that ended early: the pictures that were finished, or what is there if none was."""
    pictures, _, text = _hung(files) if files else (gr.skip(), "", gr.skip())
    return pictures, bar(0, "stopped"), text


def _hung(files: Sequence[Path]) -> tuple[Any, Any, Any]:
    """The gallery with these pictures, the first one chosen; the bar at its end; what that picture tells."""
    text = text_of(files[0]) if files else ""
    return gr.update(value=[str(file) for file in files], selected_index=0 if files else None), bar(1, ""), text


def tells(shown: list[Any], event: gr.SelectData) -> str:
    """What the chosen picture of a gallery tells."""
    chosen = shown[event.index] if shown and isinstance(event.index, int) and event.index < len(shown) else None
    return "" if chosen is None else text_of(Path(chosen[0] if isinstance(chosen, (list, tuple)) else chosen))


def text_of(path: Path) -> str:
    """What a file tells in A1111's text; nothing where it does not."""
    try:
        with Image.open(path) as image:
            return str(image.info.get(TELLS, ""))
    except OSError:
        return ""


def said(function: Callable[..., Any], *values: Any) -> Any:
    """What a function says of these values; errors of ours become a sentence on the page.

    Raises:
        gr.Error: with that sentence.
    """
    try:
        return function(*values)
    except UndiffuseError as error:
        raise sentence(error) from None


def sentence(error: Exception) -> gr.Error:
    """An error as the page shows it."""
    return gr.Error(str(error), title="That cannot be drawn", duration=12, print_exception=False)


def bar(share: float, words: str) -> str:
    """How far it is, as HTML; `words` are ours alone, nothing of a user's goes into them."""
    percent = round(100 * share)
    return (
        f'<div class="bar" role="progressbar" aria-valuemin="0" aria-valuemax="100" aria-valuenow="{percent}">'
        f'<div style="width:{percent}%"></div></div><div class="bar-words">{words}&nbsp;</div>'
    )
