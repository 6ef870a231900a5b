"""What the page is made of, without the page: fields and requests, masks, searching, grids."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import gradio as gr
import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from undiffuse.core.errors import Cancelled, DataError, SpecError, UndiffuseError, UsageError
from undiffuse.diffusion.solvers.table import find_solver
from undiffuse.generation.generator import Generator
from undiffuse.generation.hires import Hires
from undiffuse.generation.lora_tags import tags_of
from undiffuse.generation.output import Origin, attach
from undiffuse.generation.request import Request
from undiffuse.model.latent_diffusion import LatentDiffusion
from undiffuse.studio.axes import LORA, NOTHING, REPLACE, cells, changed, sheet, values_on
from undiffuse.studio.counter import Facts, Waiting
from undiffuse.studio.fitting import fitted, kept, seen
from undiffuse.studio.masks import edged, mask_of, painting_of
from undiffuse.studio.opening import opened
from undiffuse.studio.searching import pictures_in, search, small, telling
from undiffuse.studio.settings import NAMES, OWN, request_of, seed_of, values_if_told, values_of
from undiffuse.studio.showing import bar, text_of
from undiffuse.studio.tabs import queue
from undiffuse.studio.tabs.explaining import Telling
from undiffuse.studio.tabs.grid import so_far
from undiffuse.studio.wearing import named, wearable, worn

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
USUAL = dict(
    prompt="a fox", negative="", model="tiny", as_usual=False, steps=20, guidance=4, solver="DPM++ 2M", spacing=OWN, seed=7,
    count=1, width=0, height=0, label="", clip_skip=1, hires=1, hires_strength=0.7, further="",
)  # fmt: skip
FOX = Request("a fox", seed=7)


def values(**changes: object) -> list[object]:
    return [{**USUAL, **changes}[name] for name in NAMES]


def saved(path: Path, request: Request) -> Path:
    image = Image.new("RGB", (16, 16), "red")
    attach(image, request.replace(width=16, height=16), Origin("tiny", "0123456789", "cpu", "fp32")).save(path)
    return path


def test_left_as_is_usual_they_name_neither_steps_nor_guidance() -> None:
    for as_usual in (True, False):
        request, _ = request_of(values(as_usual=as_usual, steps=5, guidance=7))
        assert request.model_fields_set.isdisjoint({"steps", "guidance", "sketch"}) == as_usual


@pytest.mark.parametrize(
    ("fields", "request_"),
    [
        ({}, FOX),
        (
            {"negative": "red", "steps": 5.0, "guidance": 7.5, "count": 3},
            FOX.replace(negative="red", steps=5, guidance=7.5, count=3),
        ),
        ({"solver": "Euler a", "spacing": "Karras"}, FOX.replace(solver="Euler a", spacing="karras")),
        ({"width": 64, "height": 48.0, "label": "fox"}, FOX.replace(width=64, height=48, label="fox")),
        ({"hires": 1.5, "hires_strength": 0.5, "clip_skip": 2}, FOX.replace(hires=Hires(scale=1.5, strength=0.5), clip_skip=2)),
        ({"seed": "18446744073709551615"}, FOX.replace(seed=2**64 - 1)),
        (
            {"solver": "DDIM", "further": '{"eta": 0.5, "seeds": "diffusers", "variation": [5, 0.25]}'},
            FOX.replace(solver="DDIM", eta=0.5, seeds="diffusers", variation=(5, 0.25)),
        ),
        (
            {"further": '{"hires": {"scale": 2, "steps": 4, "upscaler": "lanczos"}, "guidance_interval": [0.2, 0.8]}'},
            FOX.replace(hires=Hires(scale=2, steps=4, upscaler="lanczos"), guidance_interval=(0.2, 0.8)),
        ),
        ({"further": '{"spacing": "align_your_steps_xl"}'}, FOX.replace(spacing="align_your_steps_xl")),
    ],
)
def test_fields_mean_a_request_and_a_picture_gives_the_fields_back(
    fields: dict[str, object], request_: Request, tmp_path: Path
) -> None:
    request, model = request_of(values(**fields))
    assert request == request_ and model == "tiny"

    one = request.replace(count=1)
    again, _ = request_of([*values_of(saved(tmp_path / "x.png", one))])
    sized = {"width": 16, "height": 16}
    assert again.replace(**sized) == one.replace(solver=again.solver, **sized)
    assert find_solver(again.solver) == find_solver(one.solver)


def test_the_seed_of_the_last_picture(tmp_path: Path) -> None:
    told = text_of(saved(tmp_path / "x.png", FOX.replace(seed=123)))

    assert seed_of(told) == 123 and seed_of(2**64 - 1) == 2**64 - 1
    for nothing in ("", None):
        with pytest.raises(UsageError, match="no picture with a seed yet"):
            seed_of(nothing)


BOATS = Facts(reads=frozenset({"caption", "label"}), labels=("fox", "boat"))
STABLE = Facts(reads=frozenset({"caption", "grammar", "clip_skip"}))


@pytest.mark.parametrize(
    ("facts", "left", "shown"),
    [
        (BOATS, {"label": "boat", "clip_skip": 1}, {"label": True, "clip_skip": False}),
        (STABLE, {"label": "", "clip_skip": 2}, {"label": False, "clip_skip": True}),
        (Facts(), {"label": "", "clip_skip": 1}, {"label": False, "clip_skip": False}),
    ],
)
def test_fields_fit_the_model(facts: Facts, left: dict[str, object], shown: dict[str, bool]) -> None:
    assert kept(facts, "boat", 2) == left
    assert seen(facts, left) == shown
    assert seen(Facts(), {"label": "boat", "clip_skip": 2}) == {"label": True, "clip_skip": True}  # so that it can be unsaid


def test_a_class_that_a_model_has_not_is_let_go() -> None:
    assert kept(BOATS, "whale", 1)["label"] == ""
    choices = fitted(BOATS, {"label": "fox", "clip_skip": 1})[0].choices
    assert [value for _, value in choices] == ["", "fox", "boat"]


def test_wrong_fields_are_named() -> None:
    with pytest.raises(SpecError, match="width"):
        request_of(values(width=9000))
    for empty in ("", " ", None, -1):
        assert request_of(values(seed=empty))[0].seed >= 0
    with pytest.raises(SpecError, match="seed 'seven'; a whole number is needed"):
        request_of(values(seed="seven"))
    for text in ("{", "[1]", "eta = 1"):
        with pytest.raises(SpecError, match="a JSON object is needed"):
            request_of(values(further=text))


def test_a_picture_that_was_begun_with_another_tells_the_rest(tmp_path: Path) -> None:
    photo = Image.new("RGB", (16, 16), "blue")
    told = values_of(saved(tmp_path / "x.png", FOX.replace(image=photo, mask=photo.convert("L"), fill="known", strength=0.5)))

    assert request_of(told)[0].prompt == "a fox" and told[NAMES.index("further")] == ""


def test_a_picture_that_tells_nothing_fills_nothing_in(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "x.png")
    with pytest.raises(DataError):
        values_of(tmp_path / "x.png")
    assert text_of(tmp_path / "x.png") == "" == text_of(tmp_path / "none.png")


def test_a_picture_that_is_dropped_fills_in_what_it_tells(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "photo.jpg")
    foreign = PngImagePlugin.PngInfo()
    foreign.add_text(
        "parameters", "a wolf\nNegative prompt: red\nSteps: 9, Sampler: Euler a, CFG scale: 6, Seed: 5, Size: 64x48"
    )
    Image.new("RGB", (8, 8)).save(tmp_path / "theirs.png", pnginfo=foreign)

    told = dict(zip(NAMES, values_if_told(tmp_path / "theirs.png"), strict=True))
    names = ("prompt", "negative", "steps", "guidance", "solver", "seed", "width", "height")
    assert [told[name] for name in names] == ["a wolf", "red", 9, 6, "Euler a", 5, 64, 48]
    for silent in (tmp_path / "photo.jpg", None):
        assert values_if_told(silent) == [gr.skip()] * len(NAMES)


def test_what_is_painted_over_is_the_mask() -> None:
    layer = Image.new("RGBA", (20, 10))
    layer.paste((225, 29, 72, 255), (5, 2, 9, 8))
    picture, mask = mask_of({"background": Image.new("RGBA", (20, 10), "blue"), "layers": [layer], "composite": None})

    assert picture.mode == "RGB" and mask.size == (20, 10)
    expected = np.zeros((10, 20), np.uint8)
    expected[2:8, 5:9] = 255
    assert np.array_equal(np.asarray(mask), expected)
    assert painting_of({"background": None, "layers": [layer]}).getpixel((6, 4)) == (225, 29, 72)
    assert painting_of({"background": None, "layers": [layer]}).getpixel((0, 0)) == (0, 0, 0)


def test_a_mask_grows_and_has_a_soft_edge() -> None:
    mask = Image.new("L", (60, 60), 0)
    mask.paste(255, (20, 20, 40, 40))
    hard, soft = np.asarray(edged(mask, 3, 0)), np.asarray(edged(mask, 0, 4))

    assert (hard[17:43, 17:43] == 255).all() and (hard == 255).sum() == 26**2
    row = soft[30, :31].astype(int)
    assert row[0] == 0 and row[30] > 250 and (np.diff(row) >= 0).all() and len(set(row)) > 8
    assert abs(row[19] + row[20] - 255) <= 4  # half way at the painted edge
    assert np.array_equal(np.asarray(edged(mask, 0, 0)), np.asarray(mask))


@pytest.mark.parametrize(
    "canvas", [None, {"background": None, "layers": []}, {"background": Image.new("RGB", (4, 4)), "layers": []}]
)
def test_an_empty_canvas_is_refused(canvas: dict[str, object] | None) -> None:
    with pytest.raises(UsageError):
        mask_of(canvas)
    with pytest.raises(UsageError, match="nothing is painted"):
        painting_of(canvas)


def see_through(path: Path) -> Image.Image:
    """A picture whose left half is red, and whose right half is transparent and black below."""
    image = Image.new("RGBA", (20, 10), (0, 0, 0, 0))
    image.paste((255, 0, 0, 255), (0, 0, 10, 10))
    image.save(path)
    return image


def test_what_is_transparent_is_laid_on_white(tmp_path: Path) -> None:
    image = see_through(tmp_path / "x.png")
    image.quantize().save(tmp_path / "palette.png")
    layer = Image.new("RGBA", image.size)
    layer.paste((225, 29, 72, 255), (2, 2, 9, 8))
    on_canvas, _ = mask_of({"background": image, "layers": [layer], "composite": None})

    found = [on_canvas, opened(str(tmp_path / "x.png"), "one"), opened(str(tmp_path / "palette.png"), "one")]
    for picture in [*found, small(tmp_path / "x.png")]:
        assert picture.mode == "RGB" and picture.getpixel((2, 5)) == (255, 0, 0) and picture.getpixel((17, 5)) == (255,) * 3


def test_a_file_that_is_no_picture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.svg").write_text("<svg/>")
    with pytest.raises(DataError, match="cannot be read as a picture"):
        opened(str(tmp_path / "x.svg"), "one to enlarge")
    with pytest.raises(UsageError, match="one to enlarge is needed"):
        opened(None, "one to enlarge")


def test_search_reads_what_any_program_writes(tmp_path: Path) -> None:
    saved(tmp_path / "ours.png", FOX.replace(solver="Euler a"))
    comfy = PngImagePlugin.PngInfo()
    comfy.add_text("prompt", '{"3": {"inputs": {"text": "a wolf"}}}')
    (tmp_path / "deeper").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "deeper" / "theirs.png", pnginfo=comfy)
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + "a fox, Sampler: Euler".encode("utf-16-be")
    Image.new("RGB", (8, 8)).save(tmp_path / "photo.jpg", exif=exif)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    (tmp_path / "notes.txt").write_text("a fox")
    paths = pictures_in(tmp_path)

    assert {path.name for path in paths} == {"ours.png", "theirs.png", "photo.jpg", "broken.png"}
    assert {path.name for path in search(paths, "FOX euler")} == {"ours.png", "photo.jpg"}
    assert [path.name for path in search(paths, "wolf")] == ["theirs.png"]
    assert search(paths, "") == paths and search(paths, "whale") == []
    assert telling(tmp_path / "broken.png") == ""
    assert small(tmp_path / "ours.png").size == (16, 16) and small(tmp_path / "broken.png").size == (256, 256)


def test_links_out_of_the_folder_are_not_shown(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "secret.png")
    (tmp_path / "in" / "link.png").symlink_to(tmp_path / "secret.png")

    assert pictures_in(tmp_path / "in") == []


@pytest.mark.parametrize(
    ("axis", "text", "found"),
    [
        ("seed", "1-3, 9", ["1", "2", "3", "9"]),
        ("guidance", " 2,4.5 ", ["2", "4.5"]),
        ("solver", "Euler a, DPM++ 2M", ["Euler a", "DPM++ 2M"]),
        (REPLACE, "fox, sea-horse", ["fox", "sea-horse"]),
        (NOTHING, "whatever", [""]),
    ],
)
def test_values_of_an_axis(axis: str, text: str, found: list[str]) -> None:
    assert values_on(axis, text) == found


@pytest.mark.parametrize(
    ("prompt", "weight", "found"),
    [
        ("", 0.8, "<lora:style:0.8>"),
        ("a fox", 1, "a fox <lora:style:1>"),
        ("a <lora:style:1> fox", 0.5, "a <lora:style:0.5> fox"),
        ("a <lora:style> fox", 0, "a fox"),
        ("a fox", 0, "a fox"),
        ("a fox <lora:other:1>", -0.25, "a fox <lora:other:1> <lora:style:-0.25>"),
        ("a <lora:style:1:0.5> fox <lora:style:2>", 0.5, "a <lora:style:0.5> fox"),
    ],
)
def test_a_prompt_wears_a_lora(prompt: str, weight: float, found: str) -> None:
    assert worn(prompt, "style", weight) == found
    worn_now = [(tag.name, tag.weight) for tag in tags_of(Request(found)) if tag.name == "style"]
    assert worn_now == ([("style", weight)] if weight else [])


def test_a_lora_is_an_axis() -> None:
    found = cells(FOX, (LORA, values_on(LORA, "style:0, style:0.5, detail")), (NOTHING, [""]))

    assert [one.prompt for one in found] == ["a fox", "a fox <lora:style:0.5>", "a fox <lora:detail:1>"]
    for wrong in ("style:much", ":1", "style:nan"):
        with pytest.raises(UsageError, match="a name and a weight are needed"):
            named(wrong)
    assert wearable(["style", "a:b", "x>y"]) == ["style"]


def test_cells_are_row_by_row_of_one_seed() -> None:
    found = cells(FOX.replace(count=4), ("steps", ["5", "9"]), (REPLACE, ["fox", "boat"]))

    told = [(one.prompt, one.steps, one.seed, one.count) for one in found]
    assert told == [("a fox", 5, 7, 1), ("a fox", 9, 7, 1), ("a boat", 5, 7, 1), ("a boat", 9, 7, 1)]
    whole = sheet([Image.new("RGB", (40, 30), "red")] * 4, ("steps", ["5", "9"]), (REPLACE, ["fox", "boat"]))
    assert whole.width > 2 * 40 and whole.height > 2 * 30
    red = (np.asarray(whole) == (255, 0, 0)).all(-1).sum()
    assert red == 4 * 40 * 30  # no label lies on a picture


@pytest.mark.parametrize(
    ("axis", "value", "told"),
    [
        ("steps", "many", "'many' for steps"),
        (REPLACE, "cat", "'wolf' is not in the prompt"),
        ("solver", "nonsense", "nonsense"),
    ],
)
def test_what_an_axis_cannot_have_is_refused(axis: str, value: str, told: str) -> None:
    with pytest.raises(UndiffuseError, match=told):
        changed(FOX, axis, value, "wolf")
    with pytest.raises(UsageError, match="no values"):
        values_on(axis, " , ")
    with pytest.raises(UsageError, match="9 x 9 pictures"):
        cells(FOX, ("seed", ["1"] * 9), ("steps", ["1"] * 9))


def test_jobs_are_chosen_by_what_users_know_of_them() -> None:
    job = Waiting("a1", "running", "5%", "tiny", "a fox", "studio")

    assert queue.named(job) == ("a fox · tiny · studio · a1", "a1")
    assert queue.named(job._replace(prompt="fox " * 50))[0].startswith("fox fox") and len(queue.named(job)[0]) < 80
    assert queue.still(["a1", "b2"], "b2") == "b2"
    assert queue.still(["a1", "b2"], "gone") == "a1" and queue.still([], "gone") is None


def test_a_grid_that_is_stopped_keeps_what_is_drawn() -> None:
    red = Image.new("RGB", (40, 30), "red")
    whole = so_far({1: red}, ("steps", ["5", "9"]), (NOTHING, [""]))

    marked = (np.asarray(whole) == (255, 0, 0)).all(-1)
    assert marked.sum() == 40 * 30 and not marked[:, : whole.width // 2].any()
    with pytest.raises(UsageError, match="no pictures"):
        so_far({}, ("steps", ["5", "9"]), (NOTHING, [""]))


def test_the_bar_tells_readers_of_screens_how_far_it_is() -> None:
    assert 'aria-valuenow="25"' in bar(0.25, "25%") and "width:25%" in bar(0.25, "25%")


def test_an_explanation_tells_how_far_it_is_and_ends_between_two_steps(tiny_model: LatentDiffusion) -> None:
    heard: list[tuple[str, float]] = []

    class Watched:
        """A counter whose jobs go on once, and then somebody stops the explanation."""

        def meanwhile(self, draw: Generator) -> None:
            heard.append((telling.words, telling.share))
            telling.stopped = True

    telling = Telling(cast(Any, Watched()), FOX.replace(steps=3), None)
    with pytest.raises(Cancelled, match="stopped"):
        telling(Generator(tiny_model, precision="fp32"))
    assert heard == [("drawing", 1 / 3)]
