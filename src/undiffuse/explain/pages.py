"""`page_of`: a story as one HTML file that needs nothing else, neither another file nor the network."""

from __future__ import annotations

import base64
import json
import re
from importlib import resources
from pathlib import Path
from typing import Any

from undiffuse.core.errors import UsageError, explain
from undiffuse.data.atomic import write_text
from undiffuse.explain.chapters import chapters, is_whole, opening
from undiffuse.explain.contrasts import said_in
from undiffuse.explain.fragments import photo, text
from undiffuse.explain.prose import KEPT
from undiffuse.explain.story import Story, lit_steps

MARK = '<meta name="generator" content="undiffuse explain">'
LIMIT = 8_000_000  # bytes of a page
SIDES = (512, 384, 256, 192, 128)  # the largest that keeps a page below the limit is taken
PLACE = re.compile(r"\{\{(\w+)\}\}")


def page_of(story: Story) -> str:
    """The page, below 8 MB.

    Raises:
        UsageError: when it has so much to tell that it stays larger.
    """
    page = ""
    for side in SIDES:
        page = _filled(story, side)
        if len(page.encode()) < LIMIT:
            return page
    raise UsageError(explain(f"a page of {len(page) / 1e6:.0f} MB", f"{LIMIT / 1e6:.0f} MB are allowed", "draw fewer steps"))


def check_page_place(path: str | Path) -> Path:
    """The path of a page to be written, checked before anybody draws for hours; only another page of ours is overwritten.

    Raises:
        UsageError: when the name belongs to another file, or its folder is not there.
    """
    path = Path(path)
    if path.exists() and not is_page(path):
        raise UsageError(explain(f"{path} is there and no page of ours", "only those are overwritten", "name another file"))
    if not path.parent.is_dir():
        raise UsageError(explain(f"there is no folder {path.parent}", "one that is there is needed", "make it"))
    return path


def write_page(page: str, path: str | Path) -> Path:
    """Write a page, whole or not at all.

    Raises:
        UsageError: as `check_page_place` does, and when the folder cannot be written into.
    """
    path = check_page_place(path)
    try:
        write_text(path, page)
    except OSError as error:
        given = f"cannot write {path} ({error.strerror})"
        raise UsageError(explain(given, "a folder that can be written into is needed", "name another one")) from None
    return path


def is_page(path: Path) -> bool:
    """Whether this file is a page that `write_page` wrote."""
    try:
        with path.open("rb") as file:
            return MARK.encode() in file.read(4096)
    except OSError:
        return False


def _filled(story: Story, side: int) -> str:
    """The template with everything in its place."""
    told = chapters(story, side)
    versions = ", ".join(f"{name} {version}" for name, version in story.trace.told["versions"].items())
    origin = story.trace.told["origin"]
    measured = f"{text(versions)}, model {text(origin['model'])} ({text(origin['model_hash'])}), {text(story.machine)}"
    said = said_in(story.request)
    inside = {
        "mark": MARK,
        "title": text(said),
        "style": _file("style.css"),
        "opening": opening(story, side),
        "kept": KEPT if is_whole(story) else "",
        "contents": "".join(f'<li><a href="#{one.anchor}">{one.heading}</a></li>' for one in told),
        "chapters": "".join(f'<section id="{one.anchor}"><h2>{one.heading}</h2>{one.inside}</section>' for one in told),
        "measured": measured,
        "data": json.dumps(_data(story, side), separators=(",", ":")).replace("<", "\\u003c"),
        "script": _file("page.js"),
    }
    return PLACE.sub(lambda place: inside[place[1]], _file("page.html"))


def _data(story: Story, side: int) -> dict[str, Any]:
    """What the script needs: the steps, and attention as bytes."""
    numbers = story.trace.numbers()
    steps = [
        {
            "step": one.index,
            "xt": photo(one.xt, side),
            "x0": photo(one.x0, side),
            **{key: numbers[one.index][key] for key in ("t", "alpha", "sigma", "snr", "seconds", "calls")},
        }
        for one in story.steps
    ]
    kept = lit_steps(story)
    layers = [
        {
            "most": one.most,
            "rows": one.shares.shape[2],
            "columns": one.shares.shape[3],
            "shares": _bytes(one.packed([story.steps[place].index for place in kept])),
        }
        for one in story.lightings
    ]
    words = [word.text for word in story.trace.words]
    return {"of": len(story.trace), "steps": steps, "lit": kept, "words": words, "layers": layers}


def _bytes(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _file(name: str) -> str:
    return resources.files("undiffuse").joinpath("explain", "page", name).read_text(encoding="utf-8")
