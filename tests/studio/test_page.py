"""Every tab of the page in a real browser, over a tiny model: nothing goes wrong, and nobody else is asked for anything.

Skipped where playwright or Chromium is not installed.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.serving.conftest import Served
from tests.studio.hands import SEED, at_rest, fill, make_large, open_tab, stroke, told, until_idle, upload

from undiffuse.cli.studio_counter import DeskCounter
from undiffuse.generation.output import Origin, attach, read_request
from undiffuse.generation.request import Request

playwright = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore::UserWarning")


def test_draw_by_the_keyboard(page: Any, studio: Served) -> None:
    panel = open_tab(page, "Draw")
    fill(panel, "a fox")
    page.keyboard.press("Control+Enter")

    text = told(panel, "Seed: 7")
    assert text.startswith("a fox\nSteps: 3, ")
    newest = studio.desk.jobs.pictures(limit=1)[0]
    assert read_request(studio.desk.jobs.file(newest)).prompt == "a fox"
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_stop_ends_the_job(page: Any, studio: Served) -> None:
    panel = open_tab(page, "Draw")
    fill(panel, "a fox that takes long", steps=150)
    panel.get_by_role("spinbutton", name="number input for Pictures").fill("16")
    make_large(panel)
    panel.get_by_role("button", name="Draw", exact=True).click()
    page.wait_for_function("[...document.querySelectorAll('.bar-words')].some(bar => /%/.test(bar.textContent))")
    page.keyboard.press("Escape")

    until_idle(page, studio)
    assert studio.desk.jobs.jobs(limit=1)[0].state == "cancelled"


@pytest.mark.parametrize("by", ["the page", "somebody else"])
def test_pictures_that_are_finished_stay_when_the_job_is_stopped(page: Any, studio: Served, by: str) -> None:
    panel = open_tab(page, "Draw")
    fill(panel, f"some foxes, stopped by {by}", steps=60)
    panel.get_by_role("spinbutton", name="number input for Pictures").fill("16")
    panel.get_by_role("spinbutton", name="number input for Pictures").blur()
    make_large(panel)
    panel.get_by_role("button", name="Draw", exact=True).click()
    panel.get_by_role("button", name=re.compile("^Thumbnail 2 of")).first.wait_for()  # the first one, and a preview
    live = next(iter(studio.desk.live.values()))
    if by == "the page":
        panel.get_by_role("button", name="Stop", exact=True).click()
    else:
        studio.desk.cancel(live.job.id)

    text = told(panel, f"some foxes, stopped by {by}")
    assert "Steps: 60" in text
    playwright.expect(panel.locator(".bar-words").first).to_contain_text("stopped")
    panel.locator(".easel img").first.wait_for()
    until_idle(page, studio)
    assert 0 < len(studio.desk.jobs.pictures(live.job.id)) < 16
    assert studio.desk.jobs.jobs(limit=1)[0].state == "cancelled"


def test_what_cannot_be_drawn_is_said_in_a_sentence(page: Any) -> None:
    panel = open_tab(page, "Draw")
    fill(panel, "a fox")
    panel.get_by_text("More", exact=True).click()
    panel.get_by_label("Class", exact=True).fill("whale")
    panel.get_by_role("button", name="Draw", exact=True).click()

    page.get_by_text("whale").last.wait_for()
    assert page.get_by_text("Traceback").count() == 0


def test_fields_fit_the_model_that_is_chosen(page: Any, studio: Served) -> None:
    panel = open_tab(page, "Draw")
    panel.get_by_text("More", exact=True).click()
    panel.get_by_label("Class", exact=True).click()
    page.get_by_role("option", name="boat").click()
    assert panel.get_by_label("Clip skip").count() == 0
    fill(panel, "")
    panel.get_by_role("button", name="Draw", exact=True).click()
    told(panel, "Label: boat")
    assert studio.desk.jobs.jobs(limit=1)[0].request.label == "boat"

    panel.get_by_label("Model", exact=True).click()
    page.get_by_role("option", name="maps").click()
    playwright.expect(panel.get_by_label("Class", exact=True)).to_be_hidden()


def test_a_lora_is_worn_by_its_tag(page: Any, studio: Served) -> None:
    panel = open_tab(page, "Draw")
    fill(panel, "a fox")
    panel.get_by_role("button", name="Wear it").click()
    playwright.expect(panel.get_by_label("Prompt", exact=True)).to_have_value("a fox <lora:style:0.8>")
    panel.get_by_role("button", name="Draw", exact=True).click()

    told(panel, "a fox <lora:style:0.8>")
    assert studio.desk.jobs.jobs(limit=1)[0].request.prompt == "a fox <lora:style:0.8>"


def test_the_seed_is_empty_at_first(page: Any) -> None:
    for name in ("Draw", "Inpaint", "X/Y grid", "Explain"):
        playwright.expect(open_tab(page, name).get_by_label(SEED)).to_have_value("")


def test_any_seed_and_the_same_seed(page: Any, studio: Served) -> None:
    panel = open_tab(page, "Draw")
    fill(panel, "a fox")
    panel.get_by_role("button", name="Any seed").click()
    playwright.expect(panel.get_by_label(SEED)).to_have_value("")
    panel.get_by_role("button", name="Draw", exact=True).click()
    told(panel, "a fox")
    panel.get_by_role("button", name="Same seed").click()

    drawn = studio.desk.jobs.jobs(limit=1)[0].request.seed
    playwright.expect(panel.get_by_label(SEED)).to_have_value(str(drawn))


def test_from_a_picture(page: Any, photo: Path) -> None:
    panel = open_tab(page, "From a picture")
    upload(panel, photo)
    panel.locator("img").first.wait_for()
    fill(panel, "a boat")
    panel.get_by_role("button", name="Draw", exact=True).click()

    assert "Denoising strength: 0.6" in told(panel, "a boat")


def test_a_transparent_picture_is_laid_on_white(page: Any, studio: Served, tmp_path: Path) -> None:
    image = Image.new("RGBA", (32, 32), (0, 0, 0, 0))
    image.paste((255, 0, 0, 255), (0, 0, 16, 32))
    image.save(tmp_path / "photo.png")
    panel = open_tab(page, "From a picture")
    upload(panel, tmp_path / "photo.png")
    panel.locator("img").first.wait_for()
    fill(panel, "half a boat")
    panel.get_by_role("button", name="Draw", exact=True).click()

    told(panel, "half a boat")
    given = studio.desk.jobs.jobs(limit=1)[0].request.image
    assert given is not None and given.getpixel((28, 16)) == (255, 255, 255) and given.getpixel((4, 16)) == (255, 0, 0)


def test_a_picture_that_tells_its_settings_fills_the_fields(page: Any, studio: Served, tmp_path: Path) -> None:
    asked = Request("a wolf", negative="red", steps=4, guidance=6, seed=5, label="boat", width=16, height=16)
    image = attach(Image.new("RGB", (16, 16), "red"), asked, Origin("tiny", "0123456789", "cpu", "fp32"))
    image.save(tmp_path / "told.png")
    panel = open_tab(page, "From a picture")
    upload(panel, tmp_path / "told.png")

    playwright.expect(panel.get_by_label("Prompt", exact=True)).to_have_value("a wolf")
    playwright.expect(panel.get_by_label("Negative prompt")).to_have_value("red")
    playwright.expect(panel.get_by_label(SEED)).to_have_value("5")
    panel.get_by_role("button", name="Draw", exact=True).click()
    told(panel, "Denoising strength: 0.6")
    drawn = studio.desk.jobs.jobs(limit=1)[0].request
    assert drawn.replace(image=None, strength=asked.strength) == asked.replace(solver=drawn.solver, fill=drawn.fill)


def test_inpaint_keeps_what_is_not_painted_over(page: Any, studio: Served, photo: Path) -> None:
    Image.effect_noise((200, 160), 60).convert("RGB").save(photo)
    panel = open_tab(page, "Inpaint")
    zoom = panel.locator(".canvas").get_by_text(re.compile(r"^\d+%$")).first
    playwright.expect(zoom).not_to_have_text("100%")  # the empty canvas is there, and fitted
    empty = at_rest(page, zoom)
    upload(panel, photo)
    playwright.expect(zoom).not_to_have_text(empty)  # and now the photo
    at_rest(page, zoom)
    stroke(page, panel, (0.5, 0.5), (6, 4))
    fill(panel, "a hat")
    panel.get_by_role("spinbutton", name="number input for Soft edge").fill("5")
    panel.get_by_role("spinbutton", name="number input for Soft edge").blur()
    panel.get_by_role("button", name="Draw", exact=True).click()

    told(panel, "a hat")
    mask = studio.desk.jobs.jobs(limit=1)[0].request.mask
    assert mask is not None and len(set(mask.getdata())) > 8  # soft
    with Image.open(photo) as before, Image.open(studio.desk.jobs.file(studio.desk.jobs.pictures(limit=1)[0])) as after:
        same = (np.asarray(before) == np.asarray(after)).all(-1)
    assert same[0].all() and same[-1].all() and same[:, 0].all() and not same.all()


def test_paint_in_the_colours_of_a_model(page: Any, studio: Served) -> None:
    panel = open_tab(page, "Paint")
    panel.get_by_label("Model", exact=True).click()
    page.get_by_role("option", name="maps").click()
    panel.locator(".swatches").get_by_text("grass").wait_for()
    stroke(page, panel, (0.4, 0.5), (100, 0))
    playwright.expect(panel.locator(".canvas").get_by_role("button", name="Undo")).to_be_enabled()
    fill(panel, "")
    panel.get_by_role("button", name="Draw", exact=True).click()

    told(panel, "Model: maps")
    layout = studio.desk.jobs.jobs(limit=1)[0].request.layout
    assert layout is not None and len(set(layout.getdata())) >= 2


def test_paint_says_what_it_needs(page: Any) -> None:
    panel = open_tab(page, "Paint")
    panel.get_by_text("has not learned semantic maps").first.wait_for()
    fill(panel, "a hill")
    panel.get_by_role("button", name="Draw", exact=True).click()

    page.get_by_text("name another model").last.wait_for()


def test_enlarge(page: Any, photo: Path, studio: Served) -> None:
    panel = open_tab(page, "Enlarge")
    upload(panel, photo)
    panel.locator("img").first.wait_for()
    fill(panel, "noise")
    panel.get_by_role("button", name="Enlarge", exact=True).click()

    assert "Size: 64x64" in told(panel, "noise")


def test_a_grid(page: Any) -> None:
    panel = open_tab(page, "X/Y grid")
    fill(panel, "a fox", steps=2)
    panel.get_by_label("Values across").fill("1, 4")
    panel.get_by_label("Values down").fill("1-2")
    panel.get_by_role("button", name="Draw the grid").click()

    sheet = panel.locator(".sheet img")
    sheet.wait_for()
    assert sheet.evaluate("image => image.decode().then(() => image.naturalWidth)") > 2 * 16


def test_a_grid_of_strengths_asks_for_a_picture(page: Any, photo: Path, studio: Served) -> None:
    panel = open_tab(page, "X/Y grid")
    assert panel.locator("input[type=file]").count() == 0
    panel.get_by_label("Across", exact=True).click()
    page.get_by_role("option", name="strength").click()
    panel.get_by_label("Down", exact=True).click()
    page.get_by_role("option", name="nothing").last.click()
    fill(panel, "a fox", steps=2)
    panel.get_by_label("Values across").fill("0.5, 1")
    panel.get_by_text("Picture to start from").wait_for()
    panel.get_by_role("button", name="Draw the grid").click()
    page.get_by_text("one to start from is needed").last.wait_for()

    upload(panel, photo)
    panel.locator("img").first.wait_for()
    panel.get_by_role("button", name="Draw the grid").click()
    panel.locator(".sheet img").wait_for()
    requests = [job.request for job in studio.desk.jobs.jobs(limit=2)]
    assert {one.strength for one in requests} == {0.5, 1.0} and all(one.image is not None for one in requests)
    assert panel.get_by_role("button", name=re.compile("share", re.I)).count() == 0


def test_the_gallery_finds_a_picture_and_draws_it_again(page: Any, studio: Served) -> None:
    panel = open_tab(page, "Draw")
    fill(panel, "a green boat")
    page.keyboard.press("Control+Enter")
    told(panel, "a green boat")

    panel = open_tab(page, "Gallery")
    panel.get_by_label("Search in what pictures tell").fill("what no picture tells")
    panel.get_by_text("0 of ").first.wait_for()
    panel.get_by_label("Search in what pictures tell").fill("green boat")
    panel.get_by_text("1 of ").first.wait_for()
    panel.locator(".library button img").first.click()
    told(panel, "a green boat")
    panel.get_by_role("button", name="Draw it again").click()
    draw = page.locator("[role=tabpanel]:visible")
    playwright.expect(draw.get_by_label("Prompt", exact=True)).to_have_value("a green boat")
    playwright.expect(draw.get_by_label(SEED)).to_have_value("7")


def test_the_queue_shows_jobs_and_stops_them(page: Any, studio: Served) -> None:
    long = Request("waiting in line", steps=400, count=16, width=64, height=64)
    live = studio.desk.submit(long, None, "api")
    panel = open_tab(page, "Queue")
    playwright.expect(panel.locator(".jobs")).to_contain_text("waiting in line")
    other = studio.desk.submit(long.replace(prompt="the second one"), None, "api")
    playwright.expect(panel.locator(".jobs")).to_contain_text("the second one")
    panel.get_by_label("Job to stop").click()
    page.get_by_role("option", name=re.compile("the second one")).click()
    panel.get_by_role("button", name="Stop it").click()
    playwright.expect(panel.locator(".jobs")).not_to_contain_text("the second one")
    assert live.job.id in studio.desk.live and other.job.id not in studio.desk.live
    panel.get_by_role("button", name="Stop all").click()

    panel.get_by_text("Nothing waits.").wait_for()
    assert studio.desk.jobs.job(live.job.id).state == "cancelled"  # type: ignore[union-attr]


def test_explain(page: Any) -> None:
    panel = open_tab(page, "Explain")
    fill(panel, "a fox", steps=2)
    panel.get_by_role("button", name="Explain", exact=True).click()

    frame = panel.frame_locator("iframe")
    frame.get_by_role("heading").first.wait_for()
    assert frame.get_by_text("Noise").count()


def test_an_explanation_can_be_stopped_and_what_waits_is_drawn(page: Any, studio: Served) -> None:
    panel = open_tab(page, "Explain")
    fill(panel, "a fox", steps=150)
    panel.get_by_role("button", name="Explain", exact=True).click()
    panel.get_by_text("drawing").first.wait_for()
    panel.get_by_role("button", name="Stop", exact=True).click()

    panel.get_by_text("stopped").wait_for()
    assert DeskCounter(studio.desk).alone(None, lambda draw: "drawn").result(timeout=60) == "drawn"
    assert not panel.locator("iframe").count()


SHOWN = [".act-draw", ".act-cancel", ".easel"]
BOXES = """
names => names.map(name => {
    const shown = [...document.querySelectorAll(name)].find(one => one.checkVisibility())
    return shown.getBoundingClientRect().toJSON()
})
"""


def test_on_a_phone_nothing_is_wider_and_buttons_are_above_results(browser: Any, studio: Served) -> None:
    page = browser.new_page(viewport={"width": 390, "height": 800})
    page.goto(f"{studio.url}/studio/")
    page.get_by_label("Prompt", exact=True).first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    for name in SHOWN:
        page.locator(f"{name}:visible").first.wait_for()
    draw, stop, easel = page.evaluate(BOXES, SHOWN)  # at one moment: what is still being filled in moves what is below
    assert draw["y"] == stop["y"] and draw["x"] + draw["width"] <= stop["x"]  # side by side
    assert draw["y"] + draw["height"] <= easel["y"]
    page.close()
