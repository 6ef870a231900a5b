"""Every tab of the page in a real browser, over a tiny model: nothing goes wrong, and nobody else is asked for anything.

Skipped where playwright or Chromium is not installed.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file
from tests.serving.conftest import Served, make_desk, serving

from undiffuse.checkpoints.api import save_model
from undiffuse.cli.studio_counter import DeskCounter
from undiffuse.conditioners.maps import MapSpec
from undiffuse.core.random import normal
from undiffuse.generation.output import Origin, attach, read_request
from undiffuse.generation.request import Request
from undiffuse.model.build import build_model
from undiffuse.model.latent_diffusion import LatentDiffusion
from undiffuse.model.spec import ModelSpec
from undiffuse.studio.mount import mount

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore::UserWarning"),
]
SEED = "Seed (empty: any)"
PATIENCE = 60_000  # milliseconds: a page takes 20 seconds to open on a machine that is busy with other things
QUIET = re.compile(r"favicon|manifest\.json|404 \(Not Found\)|reset_layers")  # the last is gradio's canvas, used at once

LATE_END = """
const reach = window.fetch, decoder = new TextDecoder(), encoder = new TextEncoder();
const late = () => new TransformStream({
  async transform(some, on) {
    const [before, end] = decoder.decode(some).split(/(?=data: [^\\n]*close_stream)/);
    if (before) on.enqueue(encoder.encode(before));
    if (end) await new Promise((now) => setTimeout(now, 2000));
    if (end) on.enqueue(encoder.encode(end));
  },
});
window.fetch = async (what, how) => {
  const answer = await reach(what, how);
  return (what.url ?? "").includes("/queue/data") ? new Response(answer.body.pipeThrough(late()), answer) : answer;
};
"""
"""The page reads the end of the stream of answers two seconds late, so that there is time to click before."""
AT_ONCE = """
const fill = (found, text) => { found.value = text; found.dispatchEvent(new Event("input", { bubbles: true })); };
new MutationObserver((_, watch) => {
  const fields = ["Prompt", "Seed (empty: any)"].map((name) => [...document.querySelectorAll("label")].find(
    (label) => label.offsetParent && label.textContent.trim() === name)?.querySelector("input, textarea"));
  if (!fields.every(Boolean)) return;
  watch.disconnect();
  fill(fields[0], "a fox");
  fill(fields[1], "7");
}).observe(document, { subtree: true, childList: true });
"""
"""Fields are filled in as soon as they are on the page."""


def reads_maps(spec: ModelSpec) -> LatentDiffusion:
    """A tiny model that reads semantic maps and nothing else."""
    net = spec.denoiser.model_copy(update={"context_width": None, "vector_width": None, "spatial_channels": 3})
    maps = MapSpec(classes=("grass", "sky"), factor=spec.codec.autoencoder.factor, how="resize")
    return build_model(spec.model_copy(update={"name": "maps", "conditioners": (maps,), "denoiser": net})).eval()


def make_lora(path: Path) -> None:
    """A LoRA for one layer of the tiny model."""
    path.parent.mkdir()
    layer = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_q"
    down, up = normal((2, 64), "studio", "down"), normal((64, 2), "studio", "up")
    save_file({f"{layer}.lora_down.weight": down, f"{layer}.lora_up.weight": up}, path)


@pytest.fixture(scope="module")
def studio(tiny_folder: Path, tiny_spec: ModelSpec, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    root = tmp_path_factory.mktemp("studio")
    (root / "mine").mkdir()
    save_model(reads_maps(tiny_spec), root / "models" / "maps")
    make_lora(root / "loras" / "style.safetensors")
    desk = make_desk(root / "out", tiny_folder, root / "models", root / "loras", count=16, body=20_000_000, pixels=2_000_000)
    with serving(desk, more=lambda app: mount(app, DeskCounter(desk), root / "out" / "pictures", root / "mine")) as one:
        yield one


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright.expect.set_options(timeout=PATIENCE)
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(studio: Served, browser: Any) -> Iterator[Any]:
    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    page.set_default_timeout(PATIENCE)
    wrong: list[str] = []
    page.on("pageerror", lambda error: None if QUIET.search(str(error)) else wrong.append(str(error)))
    page.on("console", lambda said: wrong.append(said.text) if said.type == "error" and not QUIET.search(said.text) else None)
    page.on("request", lambda asked: None if asked.url.startswith((studio.url, "data:", "blob:")) else wrong.append(asked.url))
    page.goto(f"{studio.url}/studio/")
    yield page  # what is looked up when it is opened may still come: clicks and words of the first moment count too
    page.close()
    assert wrong == []


def open_tab(page: Any, name: str) -> Any:
    """What is seen in the tab of this name once it is chosen."""
    page.get_by_role("tab", name=name, exact=True).first.click()
    panel = page.locator("[role=tabpanel]:visible")
    panel.first.wait_for()
    return panel


def fill(panel: Any, prompt: str, steps: int = 3) -> None:
    panel.get_by_label("Prompt", exact=True).fill(prompt)
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


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    Image.effect_noise((16, 16), 60).convert("RGB").resize((32, 32)).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_draw_by_the_keyboard(page: Any, studio: Served) -> None:
    panel = open_tab(page, "Draw")
    fill(panel, "a fox")
    page.keyboard.press("Control+Enter")

    text = told(panel, "Seed: 7")
    assert text.startswith("a fox\nSteps: 3, ")
    newest = studio.desk.jobs.pictures(limit=1)[0]
    assert read_request(studio.desk.jobs.file(newest)).prompt == "a fox"
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_what_is_filled_in_at_once_stays(page: Any, studio: Served) -> None:
    page.add_init_script(AT_ONCE)
    page.goto(f"{studio.url}/studio/")
    panel = open_tab(page, "Draw")
    panel.get_by_text("More", exact=True).click()

    playwright.expect(panel.get_by_label("Class", exact=True)).to_have_value("no class")  # the fields fit the model by now
    assert panel.get_by_label("Prompt", exact=True).input_value() == "a fox"
    assert panel.get_by_label(SEED).input_value() == "7"


def test_a_click_is_heard_while_the_stream_of_answers_ends(page: Any, studio: Served) -> None:
    page.add_init_script(LATE_END)
    page.goto(f"{studio.url}/studio/")
    panel = open_tab(page, "Draw")
    panel.get_by_text("More", exact=True).click()
    panel.get_by_label("Class", exact=True).wait_for()  # the last answer has come, and the stream ends
    panel.get_by_role("button", name="Wear it").click()

    playwright.expect(panel.get_by_label("Prompt", exact=True)).to_have_value("<lora:style:0.8>")


def test_stop_ends_the_job(page: Any, studio: Served) -> None:
    panel = open_tab(page, "Draw")
    fill(panel, "a fox that takes long", steps=150)
    panel.get_by_role("spinbutton", name="number input for Pictures").fill("4")
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
    playwright.expect(panel.get_by_label("Class", exact=True)).to_be_hidden(timeout=PATIENCE)


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


def test_on_a_phone_nothing_is_wider_and_buttons_are_above_results(browser: Any, studio: Served) -> None:
    page = browser.new_page(viewport={"width": 390, "height": 800})
    page.goto(f"{studio.url}/studio/")
    page.get_by_label("Prompt", exact=True).first.wait_for(timeout=PATIENCE)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    draw, stop, easel = (
        page.locator(f"{name}:visible").first.bounding_box() for name in (".act-draw", ".act-cancel", ".easel")
    )
    assert draw["y"] == stop["y"] and draw["x"] + draw["width"] <= stop["x"]  # side by side
    assert draw["y"] + draw["height"] <= easel["y"]
    page.close()
