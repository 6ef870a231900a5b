"""`undiffuse generate`: pictures on disk, told to people or machines; mistakes are one line and an exit code."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from undiffuse.checkpoints.api import save_model
from undiffuse.cli.main import run
from undiffuse.generation import generator
from undiffuse.generation.output import read_origin, read_request
from undiffuse.generation.request import Request
from undiffuse.model.build import build_model
from undiffuse.model.latent_diffusion import LatentDiffusion
from undiffuse.model.spec import ModelSpec

Generate = Callable[..., int]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def generate(tiny_folder: Path, out: Path) -> Generate:
    """The command with the tiny model, two steps, and a folder to write into."""

    def command(*words: str, model: Path | None = tiny_folder, steps: int | None = 2) -> int:
        options = [*(["--model", str(model)] if model else []), *(["--steps", str(steps)] if steps is not None else [])]
        return run(["generate", *words, *options, "--out", str(out)])

    return command


@pytest.fixture
def refused(generate: Generate, out: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """The one line that these words are refused with; nothing is written."""

    def command(code: int, *words: str, **options: Any) -> str:
        assert generate(*words, **options) == code
        told = capsys.readouterr()
        assert told.out == ""
        assert not out.exists() or not out.is_dir() or list(out.iterdir()) == []
        errors = [line for line in told.err.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1 and told.err.endswith(f"{errors[0]}\n")
        return errors[0]

    return command


def document(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """What `--json` told, and that nothing else was told."""
    told = capsys.readouterr()
    assert told.err == ""
    return json.loads(told.out)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_prompt_becomes_a_picture_with_its_request_inside(
    generate: Generate, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert generate("a fox", "--seed", "7", "--negative", "red", "--guidance", "3", "--solver", "Euler a") == 0

    told = capsys.readouterr()
    path = out / "00000-7.png"
    assert told.out == f"{path}\n"
    assert told.err.startswith("Generator('tiny' on ") and told.err.count("\n") == 2
    expected = Request("a fox", negative="red", seed=7, guidance=3, solver="euler_ancestral", steps=2, width=16, height=16)
    assert read_request(path) == expected
    with Image.open(path) as picture:
        assert picture.size == (16, 16)
        first, second, third = picture.info["parameters"].split("\n")
    assert (first, second) == ("a fox", "Negative prompt: red")
    assert third.startswith(
        "Steps: 2, Sampler: Euler a, Schedule type: SGM Uniform, CFG scale: 3, Seed: 7, Size: 16x16, Model hash: "
    )


def test_several_prompts_and_counts_are_several_files(generate: Generate, out: Path) -> None:
    assert generate("a fox", "a boat", "--seed", "7", "--count", "2") == 0

    assert names(out) == ["00000-7.png", "00001-8.png", "00002-7.png", "00003-8.png"]
    prompts = [read_request(path).prompt for path in sorted(out.iterdir())]
    assert prompts == ["a fox", "a fox", "a boat", "a boat"]


def test_nothing_is_overwritten(generate: Generate, out: Path) -> None:
    assert generate("a fox", "--seed", "7") == 0
    before = contents(out)
    assert generate("a boat", "--seed", "7") == 0

    assert names(out) == ["00000-7.png", "00001-7.png"]
    assert contents(out).items() > before.items()


def test_machines_get_one_document(generate: Generate, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert generate("a fox", "--seed", "7", "--count", "2", "--grid", "--json") == 0

    told = document(capsys)
    assert [Path(one["path"]).name for one in told["pictures"]] == ["00000-7.png", "00001-8.png"]
    assert [one["seed"] for one in told["pictures"]] == [7, 8]
    assert told["pictures"][0]["prompt"] == "a fox"
    assert told["sheet"] == str(out / "00002-grid.png")
    assert (told["model"], told["remarks"]) == ("tiny", [])
    assert told["seconds"] > 0


def test_the_sheet_shows_every_picture(generate: Generate, out: Path) -> None:
    assert generate("a fox", "a boat", "--seed", "7", "--count", "2", "--grid") == 0

    with Image.open(out / "00004-grid.png") as sheet, Image.open(out / "00003-8.png") as last:
        assert sheet.size == (32, 32)
        assert sheet.crop((16, 16, 32, 32)).tobytes() == last.convert("RGB").tobytes()


def test_an_open_seed_is_told(generate: Generate, capsys: pytest.CaptureFixture[str]) -> None:
    assert generate("a fox", "--seed", "-1", "--json") == 0

    one = document(capsys)["pictures"][0]
    assert one["seed"] >= 0 and Path(one["path"]).stem.endswith(f"-{one['seed']}")
    assert read_request(one["path"]).seed == one["seed"]


@pytest.mark.parametrize("marks", ["", "\ufeff"])
def test_prompts_from_a_file(marks: str, generate: Generate, out: Path, tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text(f"{marks}a boat\n\n  a red fox  \r\n", encoding="utf-8")

    assert generate("first", "--prompts-file", str(tmp_path / "words.txt"), "--seed", "1") == 0
    assert [read_request(path).prompt for path in sorted(out.iterdir())] == ["first", "a boat", "a red fox"]


def test_a_second_pass(generate: Generate, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    details = ["--hires-strength", "0.6", "--hires-steps", "3", "--hires-upscaler", "lanczos"]
    assert generate("a fox", "--seed", "1", "--hires", "1.5", *details) == 0

    path = out / "00000-1.png"
    with Image.open(path) as picture:
        assert picture.size == (24, 24)
    told = {"scale": 1.5, "strength": 0.6, "steps": 3, "upscaler": "lanczos"}
    assert read_request(path) == Request("a fox", seed=1, steps=2, width=16, height=16, hires=told)
    assert generate("--from", str(path), steps=None) == 0
    assert f"the same pixels as {path}" in capsys.readouterr().err
    assert generate("--from", str(path), "--hires", "2", steps=None) == 0
    with Image.open(out / "00002-1.png") as picture:
        assert picture.size == (32, 32)


def test_a_refiner(generate: Generate, out: Path, tiny_model: LatentDiffusion, tiny_folder: Path, tmp_path: Path) -> None:
    refine = ["--refiner", str(tiny_folder)]
    assert generate("a fox", "--seed", "1", *refine) == 0
    path = out / "00000-1.png"
    origin = read_origin(path)
    assert read_request(path).refine_at == 0.8 and origin is not None and origin.refiner_hash == tiny_model.fingerprint
    assert generate("a fox", "--seed", "1", *refine, "--refine-at", "0.4") == 0
    again = out / "00001-1.png"
    assert read_request(again).refine_at == 0.4
    assert generate("--from", str(again), *refine, steps=None) == 0
    assert read_request(out / "00002-1.png").refine_at == 0.4
    assert run(["verify", str(again), "--model", str(tiny_folder), *refine]) == 0


def test_prompts_from_standard_input(generate: Generate, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("a boat\na fox\n"))

    assert generate("--prompts-file", "-", "--seed", "1") == 0
    assert len(names(out)) == 2


def test_a_label_needs_no_prompt(generate: Generate, out: Path) -> None:
    assert generate("--label", "fox", "--seed", "1") == 0
    assert read_request(out / "00000-1.png").label == "fox"


@pytest.mark.parametrize(("size", "sides"), [("24x16", (24, 16)), ("24", (24, 24)), ("16X20", (16, 20))])
def test_sizes(size: str, sides: tuple[int, int], generate: Generate, out: Path) -> None:
    assert generate("a fox", "--size", size, "--seed", "1") == 0
    with Image.open(out / "00000-1.png") as picture:
        assert picture.size == sides


@pytest.mark.parametrize("position", [0, 2, 4])
def test_a_picture_is_drawn_again_to_the_same_bytes(
    position: int, generate: Generate, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert generate("a fox", "--seed", "7", "--count", "5", "--batch", "3", "--solver", "ddpm") == 0
    first = sorted(out.iterdir())[position]
    capsys.readouterr()

    assert generate("--from", str(first), "--json", steps=None) == 0

    told = document(capsys)
    assert told["same"] is True
    assert len(told["pictures"]) == 1
    again = Path(told["pictures"][0]["path"])
    assert again != first and again.read_bytes() == first.read_bytes()


def test_drawing_again_says_that_it_is_the_same(generate: Generate, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert generate("a fox", "--seed", "7") == 0
    assert generate("--from", str(out / "00000-7.png"), steps=None) == 0

    assert f"the same pixels as {out / '00000-7.png'}" in capsys.readouterr().err
    assert (out / "00000-7.png").read_bytes() == (out / "00001-7.png").read_bytes()


def test_options_change_what_is_drawn_again(generate: Generate, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert generate("a fox", "--seed", "7", "--negative", "red") == 0
    assert generate("a boat", "--from", str(out / "00000-7.png"), "--seed", "8", steps=3) == 0

    assert read_request(out / "00001-8.png") == Request("a boat", negative="red", seed=8, steps=3, width=16, height=16)
    assert "same pixels" not in capsys.readouterr().err


def test_another_model_is_named_as_the_reason_of_a_difference(
    generate: Generate, out: Path, tiny_spec: ModelSpec, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert generate("--label", "fox", "--seed", "7") == 0
    other = save_labelled(tiny_spec, tmp_path / "other")
    capsys.readouterr()

    assert generate("--from", str(out / "00000-7.png"), steps=None, model=other) == 0

    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"differs from {out / '00000-7.png'} by up to ") and "model tiny then and labelled now" in last


def test_a_picture_of_another_program_is_drawn_too(
    generate: Generate, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chunks = PngInfo()
    chunks.add_text("parameters", "a fox\nSteps: 2, Sampler: Euler a, CFG scale: 5, Seed: 3, Size: 16x16, Model: v1-5")
    Image.new("RGB", (16, 16)).save(tmp_path / "theirs.png", pnginfo=chunks)

    assert generate("--from", str(tmp_path / "theirs.png"), steps=None) == 0
    assert "(it was drawn by another program)" in capsys.readouterr().err


def test_seeds_of_another_program(generate: Generate, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = ["--seed", "3", "--solver", "Euler a", "--seeds", "webui-cpu", "--ensd", "31337", "--variation", "5:0.25"]
    assert generate("a fox", *more) == 0
    told = read_request(out / "00000-3.png")
    assert (told.seeds, told.ensd, told.variation) == ("webui-cpu", 31337, (5, 0.25))

    assert generate("--from", str(out / "00000-3.png"), steps=None) == 0
    assert "the same pixels" in capsys.readouterr().err
    assert generate("a fox", *more[:4]) == 0
    first, ours = (np.asarray(Image.open(out / name), dtype=int) for name in ("00000-3.png", "00002-3.png"))
    assert np.abs(first - ours).max() > 20


def test_rows_of_a_batch_as_comfyui_counts_them(generate: Generate, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert generate("a fox", "--seed", "3", "--seeds", "comfyui", "--count", "2") == 0
    assert [read_request(path).place for path in sorted(out.iterdir())] == [(0, 2), (1, 2)]

    assert generate("--from", str(out / "00001-3.png"), steps=None) == 0
    assert "the same pixels" in capsys.readouterr().err


def test_a_start_is_left_as_far_as_strength_says(generate: Generate, out: Path, tmp_path: Path) -> None:
    levels = np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    Image.fromarray(levels).save(tmp_path / "start.png")
    start = ["--init", str(tmp_path / "start.png")]

    for strength in ("0.1", "0.9"):
        assert generate("a fox", *start, "--strength", strength, "--seed", "1", steps=10) == 0
    assert generate("--from", str(out / "00001-1.png"), *start, steps=None) == 0

    files = [path.read_bytes() for path in sorted(out.iterdir())]
    assert files[0] != files[1] == files[2]


def test_pictures_are_written_as_soon_as_they_are_finished(
    generate: Generate, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = generator.Generator._steps

    def interrupted(*arguments: Any) -> Any:
        for step in steps(*arguments):
            if step.index == 3:  # in the second batch
                raise KeyboardInterrupt
            yield step

    monkeypatch.setattr(generator.Generator, "_steps", interrupted)

    assert generate("a fox", "--seed", "1", "--count", "4", "--batch", "2") == 130
    assert names(out) == ["00000-1.png", "00001-2.png"]


def save_labelled(spec: ModelSpec, folder: Path, classes: bool = True) -> Path:
    """A model that reads labels only, or nothing."""
    labels = [part.model_dump() for part in spec.conditioners if part.kind == "label" and classes]
    net = spec.denoiser.model_dump() | {"context_width": None, "vector_width": 8 if labels else None}
    raw = spec.model_dump(mode="json") | {"name": "labelled", "conditioners": labels, "denoiser": net}
    save_model(build_model(ModelSpec.parse(raw)), folder)
    return folder


def test_a_model_without_words_says_what_it_reads(refused: Callable[..., str], tiny_spec: ModelSpec, tmp_path: Path) -> None:
    model = save_labelled(tiny_spec, tmp_path / "labelled")

    told = refused(2, "a fox", model=model)
    assert told == "error: this model cannot read the prompt 'a fox'; it reads labels; leave the prompt out."


def test_a_model_that_reads_nothing_needs_no_words(generate: Generate, out: Path, tiny_spec: ModelSpec, tmp_path: Path) -> None:
    assert generate("--seed", "1", model=save_labelled(tiny_spec, tmp_path / "plain", classes=False)) == 0
    assert names(out) == ["00000-1.png"]


@pytest.mark.parametrize(
    ("code", "words", "message"),
    [
        (2, [], "nothing to draw was named; a prompt, --label, --prompts-file or --from is needed"),
        (2, ["a fox", "--solver", "magic"], "unknown solver 'magic'; there are: ddpm (DDPM), ddim (DDIM)"),
        (2, ["a fox", "--solver", "DDIMInverseScheduler"], "'ddim_inverse' goes from a picture to its noise"),
        (2, ["a fox", "--spacing", "wide"], "spacing = 'wide': Input should be 'trailing', 'leading'"),
        (2, ["a fox", "--size", "18x16"], "a picture of 18x16; both sides must be multiples of 4; the model's own size is 16"),
        (2, ["a fox", "--size", "0"], "width = 0: Input should be greater than or equal to 1"),
        (2, ["a fox", "--size", "big"], "--size big; a side or width x height in pixels; for instance --size 192x128"),
        (2, ["a fox", "--size", "16x"], "--size 16x; a side"),
        (2, ["a fox", "--count", "0"], "count = 0"),
        (2, ["a fox", "--guidance", "-1"], "guidance = -1.0"),
        (2, ["a fox", "--batch", "0"], "'--batch'"),
        (2, ["a fox", "--strength", "0.5"], "--strength without --init; a picture to start from is needed; add --init"),
        (2, ["a fox", "--hires-steps", "3"], "--hires-steps without --hires; it is about a second pass; add --hires 2"),
        (2, ["a fox", "--refine-at", "0.5"], "refine_at = 0.5; nothing is there to refine with; Generator(model, refiner=...)"),
        (2, ["a fox", "--hires", "5"], "scale = 5.0: Input should be less than or equal to 4"),
        (2, ["--label", "cat"], "unknown label 'cat'; this model knows 2 labels"),
        (
            2,
            ["--prompts-file", "none.txt"],
            "none.txt cannot be read (No such file or directory); a text file with one prompt a line",
        ),
        (2, ["--prompts-file", "."], ". cannot be read (Is a directory)"),
        (3, ["--from", "none.png"], "none.png is not there; a PNG file is needed; check the path"),
        (3, ["a fox", "--init", "none.png"], "none.png cannot be read (No such file or directory); a picture is needed; check"),
        (5, ["a fox", "--device", "tpu"], "unknown device 'tpu'; this machine has: "),
        (5, ["a fox", "--precision", "fp8"], "unknown precision 'fp8'; allowed are auto, fp32"),
    ],
)
def test_mistakes_are_told_in_one_line(code: int, words: list[str], message: str, refused: Callable[..., str]) -> None:
    assert message in refused(code, *words)


def test_steps_out_of_range_are_refused(refused: Callable[..., str]) -> None:
    assert "steps = 0" in refused(2, "a fox", steps=0)
    assert "steps = 1001" in refused(2, "a fox", steps=1001)


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xff\xfe\x00"])
def test_a_file_without_prompts_is_refused(content: bytes, refused: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_bytes(content)

    assert "a text file with one prompt a line is needed" in refused(2, "--prompts-file", str(tmp_path / "words.txt"))


def test_a_picture_without_a_request_is_refused(refused: Callable[..., str], tmp_path: Path) -> None:
    Image.new("RGB", (16, 16)).save(tmp_path / "plain.png")
    (tmp_path / "text.png").write_text("no picture")

    assert "tells nothing about how it was made; a PNG with" in refused(3, "--from", str(tmp_path / "plain.png"))
    assert "cannot be read as a picture; a PNG file is needed" in refused(3, "--from", str(tmp_path / "text.png"))
    assert "is not a picture that can be read" in refused(3, "a fox", "--init", str(tmp_path / "text.png"))


def test_a_start_that_is_needed_or_another_one_is_told(
    generate: Generate, out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, colour in (("start", "red"), ("other", "blue")):
        Image.new("RGB", (16, 16), colour).save(tmp_path / f"{name}.png")
    assert generate("a fox", "--init", str(tmp_path / "start.png"), "--seed", "1") == 0
    capsys.readouterr()

    assert generate("--from", str(out / "00000-1.png"), steps=None) == 3
    assert "--init on the command line" in capsys.readouterr().err
    assert generate("--from", str(out / "00000-1.png"), "--init", str(tmp_path / "other.png"), steps=None) == 3
    assert "another picture than this one" in capsys.readouterr().err


def test_models_that_are_not_there_are_refused(refused: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "x.ckpt").write_bytes(b"")

    assert "no model at 'nowhere'; 'default', a folder with spec.json, a run" in refused(4, "a fox", model=Path("nowhere"))
    assert "cannot be read (EOFError); a whole file is needed" in refused(4, "a fox", model=tmp_path / "x.ckpt")


def test_a_folder_that_cannot_be_written_is_told_before_anything_is_drawn(
    out: Path, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("undiffuse.checkpoints.api.load_model", never)
    out.write_text("a file")
    assert "cannot write into" in refused(2, "a fox")
    out.unlink()
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert "(Permission denied); a folder that can be written into is needed; name another one" in refused(2, "a fox")


def test_a_full_disk_leaves_no_half_picture(
    generate: Generate, out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(self: Image.Image, path: Path, kind: str) -> None:
        path.write_bytes(b"\x89PNG half")
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(Image.Image, "save", full)

    assert generate("a fox", "--seed", "1") == 1
    assert capsys.readouterr().err.splitlines()[-1].endswith("No space left on device.")
    assert names(out) == []


def test_the_origin_tells_the_place_in_the_batch(generate: Generate, out: Path) -> None:
    assert generate("a fox", "--seed", "1", "--count", "2", "--device", "cpu", "--precision", "fp32") == 0

    origin = read_origin(out / "00001-2.png")
    assert origin is not None
    assert (origin.model, origin.device, origin.precision, origin.batch, origin.position) == ("tiny", "cpu", "fp32", 2, 1)
