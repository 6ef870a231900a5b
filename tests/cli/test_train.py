"""`undiffuse train`: what it says, what it refuses, and the road of somebody with a folder of photographs."""

from __future__ import annotations

import io
import json
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from undiffuse.checkpoints import api
from undiffuse.cli import train as train_command
from undiffuse.cli.console import Console
from undiffuse.cli.main import run
from undiffuse.cli.train import Progress, duration
from undiffuse.training.recipe import read_recipe

Photos = Callable[..., Path]
Captured = pytest.CaptureFixture[str]
FINE_TUNE = ["--set", "objective.start=default", "--set", "denoiser=", "--set", "conditioners="]


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs go to `runs/` where one stands; TensorBoard, which is slow to load, is not."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("undiffuse.training.metrics._tensorboard", lambda folder, first: None)


@pytest.fixture
def tiny_default(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny model in the place of the embedded one."""
    monkeypatch.setattr(api, "default_folder", lambda: tiny_folder)


def refused(words: list[str], code: int, capsys: Captured) -> str:
    """The one line that this command is refused with."""
    assert run(words) == code
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("error: ") and told.err.count("\n") == 1
    return told.err


@pytest.mark.usefixtures("tiny_default")
@pytest.mark.parametrize("told_by", ["folders", "texts", "nothing"])
def test_from_a_folder_of_photographs_to_a_picture(
    told_by: str, diffusion_recipe: Path, make_photos: Photos, capsys: Captured
) -> None:
    photos = make_photos(50, told_by)
    assert run(["data", "check", "photos", "--size", "16"]) == 0
    assert "50 of 50 pictures can be read" in capsys.readouterr().out

    assert run(["train", str(diffusion_recipe), "--set", "data.path=photos", *FINE_TUNE]) == 0
    told = capsys.readouterr()
    model, following = told.out.splitlines()
    assert model == "runs/tiny/model"
    assert ("no picture has a caption" in told.err) == (told_by == "nothing")

    words = shlex.split(following.removeprefix("next: "))
    assert words[:2] == ["undiffuse", "generate"] and words[3:] == ["--model", model]
    assert words[2] in {"folders": ("red", "blue"), "texts": ("red picture", "blue picture"), "nothing": ("",)}[told_by]
    assert run([*words[1:], "--steps", "2", "--out", "drawn"]) == 0
    assert len(list(Path("drawn").glob("*.png"))) == 1
    assert photos.is_dir()


@pytest.mark.usefixtures("tiny_default")
def test_a_caption_for_all_is_what_to_type_next(diffusion_recipe: Path, make_photos: Photos, capsys: Captured) -> None:
    make_photos(3)
    caption = ["--set", "data.caption=my dog's bed"]

    assert run(["train", str(diffusion_recipe), "--set", "data.path=photos", *caption, *FINE_TUNE]) == 0
    told = capsys.readouterr()
    assert shlex.split(told.out.splitlines()[1])[1:4] == ["undiffuse", "generate", "my dog's bed"]
    assert "no picture has a caption" not in told.err


@pytest.mark.usefixtures("tiny_default")
def test_stage_one_says_how_stage_two_takes_it_up(
    autoencoder_recipe: Path, diffusion_recipe: Path, make_photos: Photos, capsys: Captured
) -> None:
    make_photos(4, "folders")
    assert run(["train", str(autoencoder_recipe), "--out", "runs/codec", "--set", "run.steps=1"]) == 0
    model, following = capsys.readouterr().out.splitlines()
    assert model == "runs/codec/model"
    assert following == f"next: undiffuse train DIFFUSION_RECIPE --set objective.codec={model}"

    words = shlex.split(following.removeprefix("next: ").replace("DIFFUSION_RECIPE", str(diffusion_recipe)))
    classes = ["--set", "conditioners=", "--set", "conditioners.label.drop=0", "--set", "run.steps=1"]
    assert run([*words[1:], *classes]) == 0
    assert "next: undiffuse generate --label blue --model runs/tiny/model" in capsys.readouterr().out


def test_json_is_one_document_and_nothing_else(autoencoder_recipe: Path, make_photos: Photos, capsys: Captured) -> None:
    make_photos(3)
    assert run(["train", str(autoencoder_recipe), "--json", "--set", "run.steps=2"]) == 0

    told = capsys.readouterr()
    document = json.loads(told.out)
    assert told.err == ""
    assert (document["run"], document["model"], document["steps"]) == ("runs/tiny", "runs/tiny/model", 2)
    assert document["values"]["autoencoder/loss"] > 0


def test_the_resolved_recipe_is_kept_with_the_options(autoencoder_recipe: Path, make_photos: Photos) -> None:
    make_photos(3)
    options = ["--set", "run.steps=1", "--set", "optimizer.rate=1e-4", "--device", "cpu", "--precision", "bf16"]
    assert run(["train", str(autoencoder_recipe), *options]) == 0

    stored = read_recipe(Path("runs/tiny/recipe.json"))
    assert (stored.run.steps, stored.optimizer.rate, stored.run.precision) == (1, 1e-4, "bf16")


def test_resume_takes_more_steps_when_asked(autoencoder_recipe: Path, make_photos: Photos, capsys: Captured) -> None:
    make_photos(3)
    assert run(["train", str(autoencoder_recipe), "--set", "run.steps=2"]) == 0
    assert run(["train", "--resume", "runs/tiny"]) == 0
    assert "steps 2 to 2" in capsys.readouterr().err
    assert run(["train", "--resume", "runs/tiny", "--set", "run.steps=4"]) == 0
    assert "steps 2 to 4" in capsys.readouterr().err
    assert read_recipe(Path("runs/tiny/recipe.json")).run.steps == 4

    assert "has taken 4 steps, run.steps = 3" in refused_after_remarks("run.steps=3", 2, capsys)
    assert "does not fit this run's recipe" in refused_after_remarks("autoencoder.widths=[32, 64]", 4, capsys)
    assert read_recipe(Path("runs/tiny/recipe.json")).run.steps == 4  # refused changes are not kept
    assert run(["train", "--resume", "runs/tiny"]) == 0


def refused_after_remarks(change: str, code: int, capsys: Captured) -> str:
    assert run(["train", "--resume", "runs/tiny", "--set", change]) == code
    return capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "neither a recipe nor --resume; one of the two is needed"),
        (["none.toml"], "recipe 'none.toml' is not there; a TOML file is needed"),
        (["autoencoder.toml", "--resume", "runs/tiny"], "recipe autoencoder.toml and --resume runs/tiny; one of the two"),
        (["--resume", "runs/none"], "runs/none is not there; a folder made by 'undiffuse train' is needed"),
        (["--resume", "."], "is not a run"),
        (["--resume", "runs/tiny", "--out", "runs/other"], "--out runs/other with --resume; a run stays in its folder"),
        (["autoencoder.toml", "--set", "run.stpes=5"], "there is no key run.stpes; the nearest: run.steps"),
        (["autoencoder.toml", "--set", "run.steps"], "the form is a.b=c"),
        (["autoencoder.toml", "--set", "run.steps=many"], "run.steps = 'many'"),
        (["autoencoder.toml", "--precision", "fp8"], "run.precision = 'fp8'"),
    ],
)
@pytest.mark.usefixtures("autoencoder_recipe")
def test_wrong_words_are_one_line(words: list[str], message: str, capsys: Captured) -> None:
    assert message in refused(["train", *words], 2, capsys)
    assert not Path("runs").exists()


def test_pictures_that_are_not_there_or_too_few_are_told(autoencoder_recipe: Path, capsys: Captured) -> None:
    words = ["train", str(autoencoder_recipe), "--set"]
    assert "nowhere is not there; a folder or a .tar file is needed" in refused([*words, "data.path=nowhere"], 3, capsys)

    Path("empty").mkdir()
    assert "empty holds no usable picture" in refused([*words, "data.path=empty"], 3, capsys)
    Path("empty/notes.md").write_text("no picture")
    Path("empty/torn.png").write_bytes(b"\x89PNG\r\n")
    assert "none of the 1 pictures can be read" in refused([*words, "data.path=empty"], 3, capsys)


def test_a_run_is_not_written_over(autoencoder_recipe: Path, make_photos: Photos, capsys: Captured) -> None:
    make_photos(3)
    assert run(["train", str(autoencoder_recipe), "--set", "run.steps=1"]) == 0
    capsys.readouterr()

    told = refused(["train", str(autoencoder_recipe)], 2, capsys)
    assert "runs/tiny holds a run already" in told and "use 'undiffuse train --resume runs/tiny', or another --out" in told


def test_a_start_that_failed_may_be_tried_again(autoencoder_recipe: Path, make_photos: Photos, capsys: Captured) -> None:
    refused(["train", str(autoencoder_recipe), "--set", "data.path=fotos"], 3, capsys)
    make_photos(3)

    assert run(["train", str(autoencoder_recipe), "--set", "run.steps=1"]) == 0


def test_models_that_are_not_there_are_told(
    diffusion_recipe: Path, make_photos: Photos, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_photos(3)
    monkeypatch.setattr(api, "default_folder", lambda: Path("nowhere"))

    words = ["train", str(diffusion_recipe), "--set"]
    assert "no default model" in refused([*words, "objective.codec=default"], 4, capsys)
    assert "'runs/codec'" in refused([*words, "objective.codec=runs/codec"], 4, capsys)
    assert "[denoiser] beside objective.start" in refused([*words, "objective.start=default"], 2, capsys)


def test_ctrl_c_before_the_first_step_says_how_to_go_on(
    autoencoder_recipe: Path, make_photos: Photos, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_photos(3)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("undiffuse.training.run.prepare", interrupted)
        told = refused(["train", str(autoencoder_recipe)], 130, capsys)
    assert told.endswith("go on with: undiffuse train --resume runs/tiny\n")
    assert run(["train", "--resume", "runs/tiny"]) == 0


def test_plain_lines_come_at_once_then_now_and_then_and_at_the_end(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(train_command.time, "monotonic", lambda: now)
    values = {"net/loss": 0.5, "critic/loss": 1.0, "net/psnr": 21.0, "pictures_per_second": 8.0}

    with Progress(Console(), batch=4) as shown:
        for step in range(1, 31):
            now += 1.0
            shown.progress(step, 30, "training")
            shown.listen(step, 30, values)

    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in lines] == [f"step {step} of 30" for step in (1, 11, 21, 30)]
    assert lines[1] == "step 11 of 30: loss 0.5000, critic 1.0000, psnr 21.0 dB, 8.0 pictures/s, 10 s left"


def test_a_terminal_gets_a_bar_for_each_phase_and_no_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with Progress(Console(), batch=4) as shown:
        shown.progress(3, 3, "encoding")
        shown.remark("pictures 3")
        shown.progress(1, 2, "training")
        shown.listen(2, 2, {"net/loss": 0.5, "pictures_per_second": 8.0})
        shown.progress(2, 2, "training")

    told = screen.getvalue()
    assert "encoding" in told and "3/3" in told and "2/2" in told and "loss 0.5000, 8.0 pictures/s" in told
    assert "pictures 3\n" in told and "step 2 of 2" not in told


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (59.4, "59 s"), (60, "1 min"), (3540, "59 min"), (3599, "1 h 00 min"), (11100, "3 h 05 min")],
)
def test_durations_are_told_in_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words
