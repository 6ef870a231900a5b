"""What somebody does on the page: choose a tab, fill in, paint, wait."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from tests.serving.conftest import Served

playwright = pytest.importorskip("playwright.sync_api")
SEED = "Seed (empty: any)"


def open_tab(page: Any, name: str) -> Any:
    """What is seen in the tab of this name once it is chosen."""
    page.get_by_role("tab", name=name, exact=True).first.click()
    panel = page.locator("[role=tabpanel]:visible")
    panel.first.wait_for()
    return panel


def fill(panel: Any, prompt: str, steps: int = 3) -> None:
    panel.get_by_label("Prompt", exact=True).fill(prompt)
    panel.get_by_label("Steps and guidance as is usual").uncheck()
    panel.get_by_role("spinbutton", name="number input for Steps").fill(str(steps))
    panel.get_by_label(SEED).fill("7")
    panel.get_by_label(SEED).blur()


def make_large(panel: Any) -> None:
    panel.get_by_text("More", exact=True).click()
    for side in ("Width", "Height"):
        panel.get_by_label(f"{side} (0: the model's)").fill("64")
        panel.get_by_label(f"{side} (0: the model's)").blur()


def until_idle(page: Any, studio: Served) -> None:
    """Wait for the end of every job; events of the page go on meanwhile."""
    for _ in range(1000):
        if not studio.desk.live:
            return
        page.wait_for_timeout(20)
    raise AssertionError("a job goes on")


def told(panel: Any, words: str) -> str:
    """What the finished picture tells, once that has these words in it."""
    box = panel.get_by_label("What the picture tells")
    playwright.expect(box).to_have_value(re.compile(re.escape(words)))
    return box.input_value()


def upload(panel: Any, picture: Path) -> None:
    panel.locator("input[type=file]").first.set_input_files(str(picture))


def at_rest(page: Any, label: Any) -> str:
    """What a label says once it says the same for a while."""
    said = [label.inner_text()]
    for _ in range(200):
        page.wait_for_timeout(100)
        said.append(label.inner_text())
        if len(set(said[-4:])) == 1 and len(said) > 4:
            return said[-1]
    raise AssertionError(f"it goes on changing: {said[-10:]}")


def stroke(page: Any, panel: Any, begin: tuple[float, float], way: tuple[float, float]) -> None:
    """Paint on the canvas: from a point, as shares of its sides, so many pixels on."""
    panel.get_by_role("button", name="Brush", exact=True).click()
    box = panel.locator("canvas").first.bounding_box()
    x, y = box["x"] + begin[0] * box["width"], box["y"] + begin[1] * box["height"]
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + way[0], y + way[1], steps=4)
    page.mouse.up()
