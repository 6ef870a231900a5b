"""The page in a real browser: no error, no request, nothing wider than the screen, slider and words at work.

Skipped where playwright or Chromium is not installed.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from undiffuse.explain.pages import page_of
from undiffuse.explain.story import tell
from undiffuse.generation.generator import Generator
from undiffuse.generation.request import Request
from undiffuse.model.latent_diffusion import LatentDiffusion

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")


@pytest.fixture(scope="module")
def page(tiny_model: LatentDiffusion, tmp_path_factory: pytest.TempPathFactory) -> Path:
    draw = Generator(tiny_model, device="cpu", precision="fp32", tell=None)
    path = tmp_path_factory.mktemp("page") / "page.html"
    path.write_text(page_of(tell(draw, Request("a fox, boat", seed=7, steps=4))), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(params=[(390, "light"), (1280, "dark")], ids=["phone", "desktop"])
def shown(request: pytest.FixtureRequest, browser: Any, page: Path) -> Iterator[Any]:
    """The page on a screen; at the end nothing has gone wrong and nobody was asked for anything."""
    width, scheme = request.param
    tab = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    wrong: list[str] = []
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    tab.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
    tab.on("request", lambda asked: None if asked.url.startswith(("file:", "data:")) else wrong.append(asked.url))
    tab.goto(page.as_uri())
    yield tab
    tab.close()
    assert wrong == []


def test_nothing_is_wider_than_the_screen(shown: Any) -> None:
    assert shown.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_the_slider_shows_every_step(shown: Any) -> None:
    slider, which = shown.locator("#step"), shown.locator("#stepper .which")
    slider.focus()
    for _ in range(4):
        slider.press("ArrowLeft")
    first = shown.locator(".xt").get_attribute("src")
    assert (which.inner_text(), shown.locator("dd.sigma").inner_text()) == ("1", "1")
    slider.press("ArrowRight")
    assert (which.inner_text(), shown.locator("dd.sigma").inner_text()) == ("2", "0.75")
    assert shown.locator(".xt").get_attribute("src") != first
    assert slider.get_attribute("aria-valuetext") == "step 2 of 4"


def test_a_word_lights_the_picture(shown: Any) -> None:
    light = shown.locator("#lamp")
    pixels = "document.querySelector('#lamp canvas').toDataURL()"
    light.locator(".word", has_text="boat").click()
    one, told = shown.evaluate(pixels), light.locator(".told").inner_text()
    light.locator(".word", has_text="fox").click()
    assert told.startswith("boat took ") and light.locator(".told").inner_text().startswith("fox took ")
    assert light.locator(".word[aria-pressed=true] span").all_inner_texts() == ["fox"]
    assert shown.evaluate(pixels) != one

    light.locator("input").press("End")
    assert "in step 4 of 4" in light.locator(".told").inner_text()
    light.locator("select").select_option("1")
    assert light.locator("canvas").get_attribute("aria-label").startswith("The picture in step 4 of 4, lit by fox: ")


def test_the_steps_play_until_they_are_stopped(shown: Any) -> None:
    play, slider = shown.locator(".play"), shown.locator("#step")
    slider.press("End")
    play.click()
    assert (play.inner_text(), slider.input_value()) == ("Pause", "0")
    play.click()
    assert play.inner_text() == "Play"
