"""Requests inside PNG files: our own chunk, and the text of AUTOMATIC1111's web UI to the letter."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from undiffuse.core.errors import DataError, SpecError, UsageError
from undiffuse.core.version import VERSION
from undiffuse.generation.hires import Hires
from undiffuse.generation.metadata import parameters_text, parse_parameters
from undiffuse.generation.output import Origin, attach, open_folder, read_origin, read_request, write_picture
from undiffuse.generation.request import Request

ORIGIN = Origin("tiny, really: small", "0123456789", "cpu", "fp32")
FOX = Request("a fox, 3d render", seed=42, width=128, height=96, guidance=7, solver="DPM++ 2M Karras")


def saved(request: Request, folder: Path) -> Path:
    image = Image.new("RGB", (128, 96), (10, 20, 30))
    return write_picture(attach(image, request, ORIGIN), folder, str(request.seed))


def foreign(text: str, folder: Path) -> Path:
    """A PNG from another program."""
    path = folder / "foreign.png"
    image = Image.new("RGB", (4, 4))
    image.encoderinfo = {}
    from PIL.PngImagePlugin import PngInfo

    chunks = PngInfo()
    chunks.add_text("parameters", text)
    image.save(path, pnginfo=chunks)
    return path


def test_the_parameters_text_to_the_letter() -> None:
    assert parameters_text(FOX.replace(negative="blur, noise"), ORIGIN.model, ORIGIN.model_hash) == (
        "a fox, 3d render\n"
        "Negative prompt: blur, noise\n"
        "Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7, Seed: 42, Size: 128x96, "
        f"Model hash: 0123456789, Model: tiny really small, Version: undiffuse {VERSION}"
    )


def test_a_start_from_a_picture_is_told() -> None:
    text = parameters_text(FOX.replace(image=Image.new("RGB", (2, 2)), strength=0.6), "m", "h")

    assert ", Denoising strength: 0.6, " in text


def test_a_clip_skip_of_one_is_not_told() -> None:
    text = parameters_text(FOX.replace(clip_skip=2), "m", "h")

    assert ", Clip skip: 2, " in text
    assert parse_parameters(text)["clip_skip"] == "2"
    assert "Clip skip" not in parameters_text(FOX, "m", "h") and "clip_skip" not in parse_parameters("a fox")


def test_a_value_with_commas_is_quoted() -> None:
    text = parameters_text(FOX.replace(label='fox: red, "small"'), "m", "h")

    assert 'Label: "fox: red, \\"small\\""' in text
    assert parse_parameters(text)["label"] == 'fox: red, "small"'


LINE = st.text(st.characters(exclude_characters="\n\r", exclude_categories=["C", "Z"]) | st.just(" "), max_size=40).map(
    str.strip
)


@given(prompt=LINE, negative=LINE, seed=st.integers(0, 2**64 - 1), steps=st.integers(1, 1000), guidance=st.integers(0, 30))
def test_what_we_write_we_read(prompt: str, negative: str, seed: int, steps: int, guidance: int) -> None:
    request = Request(
        prompt, negative=negative, seed=seed, steps=steps, guidance=guidance, width=64, height=32, spacing="karras"
    )

    assert Request(**parse_parameters(parameters_text(request, "m", "h"))) == request


def test_a_text_of_another_program(tmp_path: Path) -> None:
    path = foreign(
        "masterpiece, (fox:1.2)\non two lines\nNegative prompt: lowres,\nbad hands\n"
        "Steps: 28, Sampler: Euler a, Schedule type: Automatic, CFG scale: 6.5, Seed: 1234, Size: 512x768, "
        'Model hash: abcdef1234, Model: v1-5, Clip skip: 2, Lora hashes: "a: 1, b: 2", Version: v1.10.1',
        tmp_path,
    )

    assert read_request(path) == Request(
        "masterpiece, (fox:1.2)\non two lines",
        negative="lowres,\nbad hands",
        steps=28,
        solver="euler_ancestral",
        spacing="linspace",
        guidance=6.5,
        seed=1234,
        seeds="webui-gpu",
        width=512,
        height=768,
        clip_skip=2,
    )


A1111 = "a fox\nSteps: 20, Sampler: {}, CFG scale: 7, Seed: 1, Size: 64x64{}, Version: v1.10.1"


@pytest.mark.parametrize(
    ("sampler", "more", "told"),
    [
        ("Euler", "", {"seeds": "webui-gpu", "spacing": "linspace"}),
        ("Euler", ", RNG: CPU", {"seeds": "webui-cpu", "spacing": "linspace"}),
        ("Euler a", ", RNG: NV, ENSD: 31337", {"seeds": "webui-gpu", "ensd": 31337, "spacing": "linspace"}),
        ("DPM++ 2M", ", Schedule type: Automatic", {"seeds": "webui-gpu", "spacing": "karras"}),
        ("DPM++ 3M SDE", ", Schedule type: Exponential", {"seeds": "webui-gpu", "spacing": "exponential"}),
        ("DPM++ SDE Karras", "", {"seeds": "webui-gpu", "spacing": "karras"}),
        ("DDPM", "", {}),  # Forge's; how it draws is not known
        (
            "LMS",
            ", Variation seed: 5, Variation seed strength: 0.25",
            {"seeds": "webui-gpu", "variation": (5, 0.25), "spacing": "linspace"},
        ),
    ],
)
def test_whose_numbers_a_seed_of_the_web_ui_stands_for(
    sampler: str, more: str, told: dict[str, object], tmp_path: Path
) -> None:
    found = read_request(foreign(A1111.format(sampler, more), tmp_path))

    assert found == Request("a fox", solver=sampler, guidance=7, seed=1, width=64, height=64, **told)


@pytest.mark.parametrize("version", ["undiffuse 0.1.0", "stable-diffusion.cpp", "ComfyUI"])
def test_other_programs_that_write_so_have_other_numbers(version: str, tmp_path: Path) -> None:
    text = A1111.format("Euler a", "").replace("v1.10.1", version)

    assert read_request(foreign(text, tmp_path)).seeds == "native"


def test_forge_counts_as_the_web_ui(tmp_path: Path) -> None:
    text = A1111.format("Euler a", "").replace("v1.10.1", "f2.0.1v1.10.1-previous-659-gc055f2d4")

    assert read_request(foreign(text, tmp_path)).seeds == "webui-gpu"


@pytest.mark.parametrize(("seeds", "rng"), [("webui-cpu", "CPU"), ("webui-gpu", "NV")])
def test_numbers_of_the_web_ui_are_told_as_it_tells_them(seeds: str, rng: str, tmp_path: Path) -> None:
    request = FOX.replace(solver="Euler a", seeds=seeds, ensd=31337, variation=(9, 0.5))
    text = parameters_text(request, "m", "h")

    assert ", Model: m, Variation seed: 9, Variation seed strength: 0.5, " in text
    assert f", ENSD: 31337, RNG: {rng}, Version: " in text
    assert Request(**parse_parameters(text)) == request
    assert read_request(saved(request, tmp_path)) == request


@pytest.mark.parametrize("seeds", ["native", "diffusers", "comfyui"])
def test_all_other_numbers_are_told_in_our_own_chunk_alone(seeds: str, tmp_path: Path) -> None:
    request = FOX.replace(seeds=seeds)

    assert "RNG" not in parameters_text(request, "m", "h")
    assert read_request(saved(request, tmp_path)) == request


def test_a_second_pass_is_told_as_the_web_ui_tells_it(tmp_path: Path) -> None:
    request = FOX.replace(hires=Hires(scale=2, strength=0.55, steps=10))

    text = parameters_text(request, "m", "h")
    assert ", Denoising strength: 0.55, Hires upscale: 2, Hires steps: 10, Hires upscaler: Latent, " in text
    assert "Hires steps" not in parameters_text(FOX.replace(hires=Hires()), "m", "h")
    assert Request(**parse_parameters(text)).replace(solver=FOX.solver) == request
    assert read_request(saved(request, tmp_path)) == request


def test_a_second_pass_of_the_web_ui_is_read(tmp_path: Path) -> None:
    told = "a fox\nSteps: 20, Sampler: Euler, Seed: 1, Denoising strength: 0.6, Hires upscale: 1.5"
    first = foreign(f"{told}, Hires upscaler: Lanczos", tmp_path)
    fox = Request("a fox", solver="euler", seed=1)
    assert read_request(first) == fox.replace(hires=Hires(scale=1.5, strength=0.6, upscaler="lanczos"))

    second = foreign(f"{told}, Hires steps: 8, Hires upscaler: 4x-UltraSharp", tmp_path)
    with pytest.raises(SpecError, match="hires: upscaler = '4x-UltraSharp'"):
        read_request(second)
    assert read_request(second, hires=Hires(steps=8)) == fox.replace(hires=Hires(steps=8))
    assert read_request(second, hires=None) == fox

    sized = foreign("a fox\nSteps: 20, Sampler: Euler, Seed: 1, Denoising strength: 0.6, Hires resize: 1024x1024", tmp_path)
    assert read_request(sized) == fox  # a size instead of a scale: we have no field for it


def test_a_solver_that_we_lack_can_be_replaced(tmp_path: Path) -> None:
    path = foreign("a fox\nSteps: 20, Sampler: DPM fast, CFG scale: 5, Seed: 1", tmp_path)

    with pytest.raises(SpecError, match="unknown solver 'DPM fast'"):
        read_request(path)
    assert read_request(path, solver="Heun") == Request("a fox", solver="heun", guidance=5, seed=1)


def test_a_last_line_of_few_pairs_belongs_to_the_prompt(tmp_path: Path) -> None:
    request = read_request(foreign("a clock\nhalf past: twelve, time: late", tmp_path))

    assert request.prompt == "a clock\nhalf past: twelve, time: late"


def test_our_own_chunk_brings_everything_back(tmp_path: Path) -> None:
    request = FOX.replace(prompt="Negative prompt: 狐\nSteps: 3, Seed: 4, Size: 1x1", guidance_interval=(0.2, 0.9))

    assert read_request(saved(request, tmp_path)) == request


def test_the_chunks_are_plain_text_and_tell_the_origin(tmp_path: Path) -> None:
    with Image.open(saved(FOX, tmp_path)) as picture:
        told = json.loads(picture.info["undiffuse"])
        lines = picture.info["parameters"].splitlines()

    assert told["format"] == "undiffuse-picture/1"
    assert told["request"]["seed"] == 42
    drawn_on = {"device": "cpu", "precision": "fp32", "batch": 1, "position": 0}
    assert told["origin"] == {"model": ORIGIN.model, "model_hash": "0123456789", **drawn_on}
    assert told["versions"]["undiffuse"] == VERSION
    assert lines[-1].startswith("Steps: 20, Sampler: DPM++ 2M")


def test_a_plain_save_carries_the_request(tmp_path: Path) -> None:
    image = attach(Image.new("RGB", (4, 4)), FOX, ORIGIN)

    image.save(tmp_path / "fox.png")
    image.save(tmp_path / "fox.jpg")

    assert read_request(tmp_path / "fox.png") == FOX


def test_a_start_stays_out_of_the_file_and_must_be_the_same(tmp_path: Path) -> None:
    start = Image.effect_noise((64, 64), 90).convert("RGB")
    request = FOX.replace(image=start, strength=0.5)
    path = saved(request, tmp_path)

    assert path.stat().st_size < 3000
    assert read_request(path, start) == request
    with pytest.raises(DataError, match="--init"):
        read_request(path)
    with pytest.raises(DataError, match="another picture than this one"):
        read_request(path, start.rotate(90))


def test_all_pictures_stay_out_of_the_file_and_must_be_the_same(tmp_path: Path) -> None:
    photo = Image.effect_noise((64, 64), 90).convert("RGB")
    mask = Image.new("L", (64, 64), 0)
    mask.paste(255, (8, 8, 24, 24))
    layout = Image.new("L", (32, 32), 3)
    pictures = {"image": photo, "mask": mask, "layout": layout, "small": photo.resize((16, 16)), "like": photo.rotate(90)}
    request = FOX.replace(**pictures, fill="repaint", scales={"map": 2.0}, boxes=[(0, 0, 0.5, 1, "fox")])
    path = saved(request, tmp_path)

    assert path.stat().st_size < 3000
    assert read_request(path, **pictures) == request
    with pytest.raises(DataError, match=r"with its mask and its semantic map; .*; pass them along \(--mask --layout on"):
        read_request(path, **{**pictures, "mask": None, "layout": None})
    for name in ("mask", "layout", "small", "like"):
        other = pictures[name].transpose(Image.Transpose.FLIP_LEFT_RIGHT) if name != "layout" else Image.new("L", (32, 32), 4)
        with pytest.raises(DataError, match=f"another picture than this one for '{name}'; its pixels must be the same"):
            read_request(path, **{**pictures, name: other})


def test_pictures_that_were_not_there_are_passed_over(tmp_path: Path) -> None:
    other = Image.new("RGB", (16, 16))

    assert read_request(saved(FOX, tmp_path), other, layout=other, like=other) == FOX


def test_a_picture_in_the_context_stays_out_too(tmp_path: Path) -> None:
    sketch = Image.effect_noise((64, 64), 90).convert("RGB")
    request = FOX.replace(context={"sketch": sketch, "mood": 3})
    path = saved(request, tmp_path)

    assert path.stat().st_size < 3000
    assert read_request(path, context={"sketch": sketch}) == request
    with pytest.raises(DataError, match=r"with context\.sketch; pictures are not stored in it; pass it along\."):
        read_request(path)
    with pytest.raises(DataError, match=r"than this one for 'context\.sketch'"):
        read_request(path, context={"sketch": sketch.rotate(90)})


def test_a_file_of_the_first_version_is_read_still(tmp_path: Path) -> None:
    """Written before requests had masks: of its pictures it tells `image_sha256` alone."""
    start = Image.new("RGB", (4, 4), (1, 2, 3))
    image = attach(Image.new("RGB", (4, 4)), FOX.replace(image=start), ORIGIN)
    told = json.loads(image.encoderinfo["pnginfo"].chunks[1][1].partition(b"\0")[2])
    for name in ("boxes", "context", "scales"):
        del told["request"][name]
    assert sorted(key for key in told if key.endswith("_sha256")) == ["image_sha256"]
    assert told["image_sha256"] == "e6714c3a4ef92f25ab32f3ca3300aa96ecfa5606f0767f1dc369ee03e11fb106"
    image.encoderinfo["pnginfo"].add_text("undiffuse", json.dumps(told))
    image.save(tmp_path / "x.png")

    assert read_request(tmp_path / "x.png", start) == FOX.replace(image=start)


def test_equal_requests_give_equal_bytes(tmp_path: Path) -> None:
    assert saved(FOX, tmp_path / "a").read_bytes() == saved(FOX, tmp_path / "b").read_bytes()


def test_files_are_numbered_and_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "00004-notes.png").write_bytes(b"mine")
    (tmp_path / "99999999-other.txt").write_bytes(b"mine")

    names = [saved(FOX, tmp_path).name, saved(FOX, tmp_path).name]

    assert names == ["00005-42.png", "00006-42.png"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["00004-notes.png", *names, "99999999-other.txt"]


@pytest.mark.parametrize("links", [True, False])
def test_a_name_that_another_process_takes_meanwhile_is_passed_over(
    links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link, intruder = os.link, tmp_path / "00000-42.png"

    def late(source: Path, target: Path) -> None:
        if not intruder.exists():
            intruder.write_bytes(b"mine")
        if not links:
            raise PermissionError(1, "Operation not permitted")
        link(source, target)

    monkeypatch.setattr(os, "link", late)
    path = saved(FOX, tmp_path)

    assert path.name == "00001-42.png"
    assert read_request(path) == FOX
    assert intruder.read_bytes() == b"mine"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["00000-42.png", "00001-42.png"]


def test_a_file_has_its_name_only_when_it_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save, seen = Image.Image.save, []

    def watched(self: Image.Image, target: Path, kind: str) -> None:
        save(self, target, kind)
        seen.extend(entry.suffix for entry in tmp_path.iterdir())

    monkeypatch.setattr(Image.Image, "save", watched)
    path = saved(FOX, tmp_path)

    assert seen == [".part"]
    assert [entry for entry in tmp_path.iterdir()] == [path]
    assert path.stat().st_mode & 0o777 == 0o666 & ~_umask()


def test_a_folder_that_cannot_be_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")

    for place in ("file", "file/inside"):
        with pytest.raises(UsageError, match=r"cannot write into .*file.*; name another one"):
            open_folder(tmp_path / place)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(UsageError, match="Permission denied"):
        open_folder(tmp_path)


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Image.Image, "save", full)

    with pytest.raises(OSError, match="disk full"):
        write_picture(Image.new("RGB", (2, 2)), tmp_path, "1")
    assert list(tmp_path.iterdir()) == []


def test_files_that_tell_nothing_are_refused_by_name(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "plain.png")
    (tmp_path / "text.png").write_text("no picture")

    with pytest.raises(DataError, match=r"plain\.png tells nothing"):
        read_request(tmp_path / "plain.png")
    with pytest.raises(DataError, match=r"text\.png cannot be read"):
        read_request(tmp_path / "text.png")
    with pytest.raises(DataError, match=r"none\.png is not there"):
        read_request(tmp_path / "none.png")


def test_a_damaged_chunk_is_refused(tmp_path: Path) -> None:
    image = attach(Image.new("RGB", (4, 4)), FOX, ORIGIN)
    chunks = image.encoderinfo["pnginfo"]
    chunks.add_text("undiffuse", "{")
    image.save(tmp_path / "x.png")

    for read in (read_request, read_origin):
        with pytest.raises(DataError, match="damaged"):
            read(tmp_path / "x.png")


def test_a_chunk_of_a_later_version_is_told_as_such(tmp_path: Path) -> None:
    image = attach(Image.new("RGB", (4, 4)), FOX, ORIGIN)
    image.encoderinfo["pnginfo"].add_text("undiffuse", json.dumps({"format": "undiffuse-picture/9", "request": {}}))
    image.save(tmp_path / "x.png")

    with pytest.raises(DataError, match=r"undiffuse-picture/9.*this version reads undiffuse-picture/1; update"):
        read_request(tmp_path / "x.png")


def test_the_origin_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    place = replace(ORIGIN, batch=4, position=2)

    attach(Image.new("RGB", (4, 4)), FOX, place).save(path)

    assert read_origin(path) == place
    assert read_origin(foreign("a fox\nSteps: 1, Seed: 1, Size: 8x8", tmp_path)) is None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
