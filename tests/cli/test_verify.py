"""`undiffuse verify`: the same, or not and why; the exit code says which."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image, PngImagePlugin
from PIL.PngImagePlugin import PngInfo

from undiffuse.checkpoints.api import load_model, save_model
from undiffuse.cli.main import run


@pytest.fixture
def picture(tiny_folder: Path, tmp_path: Path) -> Path:
    """The second picture of a batch of three."""
    words = ["generate", "a fox", "--seed", "7", "--count", "3", "--steps", "2", "--device", "cpu", "--precision", "fp32"]
    assert run([*words, "--model", str(tiny_folder), "--out", str(tmp_path / "out")]) == 0
    return tmp_path / "out" / "00001-8.png"


def resaved(path: Path, to: Path, by: int) -> Path:
    """The picture with one pixel moved by so many levels, telling what it told."""
    with Image.open(path) as image:
        changed, chunks = image.convert("RGB"), PngImagePlugin.PngInfo()
        for name, text in image.info.items():
            chunks.add_text(name, text)
    red, *rest = changed.getpixel((3, 3))  # type: ignore[misc]
    changed.putpixel((3, 3), (red + by if red < 128 else red - by, *rest))
    changed.save(to, pnginfo=chunks)
    return to


def verify(path: Path, model: Path, *options: str) -> int:
    return run(["verify", str(path), "--model", str(model), *options])


def test_a_picture_is_what_it_says(picture: Path, tiny_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify(picture, tiny_folder) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"{picture}: the same pixels"


def test_a_changed_pixel_is_found(picture: Path, tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changed = resaved(picture, tmp_path / "changed.png", by=51)
    capsys.readouterr()
    assert verify(changed, tiny_folder, "--json") == 8

    told = json.loads(capsys.readouterr().out)
    assert (told["same"], told["furthest"], told["causes"]) == (False, 51, [])
    assert told["psnr"] == pytest.approx(10 * math.log10(16 * 16 * 3 * 5**2))  # one value of all, by a fifth of the range
    assert "its pixels were changed after it was drawn" in told["why"]
    assert verify(changed, tiny_folder, "--psnr", "40") == 0
    assert verify(changed, tiny_folder, "--psnr", "50") == 8


def test_another_model_is_the_first_cause(
    picture: Path, tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = load_model(tiny_folder)
    with torch.no_grad():
        next(model.denoiser.parameters()).mul_(2)
    save_model(replace(model, spec=model.spec.model_copy(update={"name": "other"})), tmp_path / "other")
    capsys.readouterr()
    assert verify(picture, tmp_path / "other") == 8
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith(f"{picture}: not the same, by up to ") and told[0].endswith(" dB")
    assert told[1].startswith("because of model: 'tiny (") and "against 'other (" in told[1]


def test_another_precision_is_told(picture: Path, tiny_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert verify(picture, tiny_folder, "--precision", "bf16", "--json") == 8
    assert [cause["name"] for cause in json.loads(capsys.readouterr().out)["causes"]] == ["precision"]


def test_a_picture_to_start_from_must_come_along(tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (16, 16), "red").save(tmp_path / "start.png")
    start = ["--init", str(tmp_path / "start.png")]
    words = ["generate", "a fox", "--seed", "7", "--steps", "2", *start]
    assert run([*words, "--model", str(tiny_folder), "--out", str(tmp_path / "out")]) == 0
    path = tmp_path / "out" / "00000-7.png"

    assert verify(path, tiny_folder) == 3
    assert "--init on the command line" in capsys.readouterr().err
    assert verify(path, tiny_folder, *start) == 0


def test_other_programs_are_told(tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chunks = PngInfo()
    chunks.add_text("parameters", "a fox\nSteps: 2, Sampler: Euler a, CFG scale: 5, Seed: 3, Size: 16x16, Model: v1-5")
    Image.new("RGB", (16, 16)).save(tmp_path / "theirs.png", pnginfo=chunks)
    Image.new("RGB", (16, 16)).save(tmp_path / "plain.png")

    assert verify(tmp_path / "theirs.png", tiny_folder) == 8
    assert "it was drawn by another program" in capsys.readouterr().out
    assert verify(tmp_path / "plain.png", tiny_folder) == 3
