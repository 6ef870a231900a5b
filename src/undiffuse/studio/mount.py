"""The page on a web application."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import gradio as gr

from undiffuse.studio.counter import Counter
from undiffuse.studio.hearing import SCRIPT
from undiffuse.studio.look import CSS, HEAD, theme
from undiffuse.studio.page import build_page


def mount(app: Any, counter: Counter, library: Path, gallery: Path | None = None, path: str = "/studio") -> Any:
    """Put the page on a FastAPI application; it brings no telemetry, and asks nobody else for anything.

    Args:
        app: the application, whose own door guards the page too.
        counter: what draws.
        library: folder of the pictures that it keeps.
        gallery: folder of further pictures, which are shown and never changed.
        path: where on the application.
    """
    options: dict[str, Any] = {"theme": theme(), "css": CSS, "head": HEAD + SCRIPT, "footer_links": []}
    options["allowed_paths"] = [str(library.resolve())]  # of the gallery only small copies are shown
    quiet: dict[str, Any] = {"ssr_mode": False, "show_error": True, "mcp_server": False, "enable_monitoring": False}

    async def mounted() -> Any:
        return gr.mount_gradio_app(app, build_page(counter, gallery), path, **options, **quiet)

    return asyncio.run(mounted())  # for every lock that Gradio makes outside a loop it opens one, and never closes it
