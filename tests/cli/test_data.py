"""`undiffuse data`: what is built and what is found, for people and for machines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from undiffuse.cli.main import run
from undiffuse.core.errors import DependencyError
from undiffuse.data.emoji import build
from undiffuse.data.emoji.build import BuildReport


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three pictures with captions, two of them alike, and a file that is none."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, seed in enumerate((1, 2, 2)):
        levels = np.random.default_rng(seed).integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(levels).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(f"picture {number}")
    (folder / "broken.jpg").write_bytes(b"no picture")
    return folder


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the command asks a build for, which then says that it drew five pictures."""
    seen: dict[str, Any] = {}

    def pretend(out: Path, **options: Any) -> BuildReport:
        seen.update(out=out, **options)
        options["progress"](5, 5, "drawing noto")
        return BuildReport(out, {"noto": 5}, {"train": 4, "val": 1}, {"Apache-2.0": 5}, {"noto/x.png": "the picture is empty"})

    monkeypatch.setattr(build, "build_emoji", pretend)
    return seen


def test_check_tells_people(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "check", str(photos), "--size", "64"]) == 0

    told = capsys.readouterr()
    assert told.out.startswith(f"{photos}: 3 of 4 pictures can be read (folder)\n")
    assert "cannot be used: broken.jpg: " in told.out
    assert "the same picture: 1.png, 2.png" in told.out
    assert "advice: 3 pictures are smaller than 64 pixels; they will be enlarged and look soft.\n" in told.out
    assert told.err == ""


def test_check_tells_machines(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "check", str(photos), "--json"]) == 0

    told = json.loads(capsys.readouterr().out)
    assert (told["listed"], told["readable"], told["size"]) == (4, 3, 128)
    assert told["problems"][0]["name"] == "broken.jpg"
    assert told["duplicates"] == [["1.png", "2.png"]]


def test_a_place_without_pictures_is_one_line_and_exit_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for place in (tmp_path, tmp_path / "none"):
        assert run(["data", "check", str(place)]) == 3
        told = capsys.readouterr()
        assert told.out == ""
        assert told.err.startswith("error: ") and str(place) in told.err and told.err.count("\n") == 1


def test_build_tells_people(asked: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "build", "emoji", "--out", str(tmp_path), "--size", "64", "--skins"]) == 0

    assert (asked["out"], asked["size"], asked["skins"]) == (tmp_path, 64, True)
    assert capsys.readouterr().out.splitlines() == [
        f"{tmp_path}: 5 pictures in 1 styles",
        "by style: noto 5",
        "by split: train 4, val 1",
        "by licence: Apache-2.0 5",
        "left out: noto/x.png: the picture is empty",
        f"licences and attribution: {tmp_path / 'LICENSES.md'}",
    ]


def test_build_tells_machines(asked: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "build", "emoji", "--json"]) == 0

    assert (asked["out"], asked["size"], asked["skins"]) == (Path("data/emoji"), 128, False)
    told = json.loads(capsys.readouterr().out)
    assert (told["folder"], told["count"], told["styles"]) == ("data/emoji", 5, {"noto": 5})


def test_another_name_is_refused(asked: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "build", "coco"]) == 2
    assert capsys.readouterr().err == "error: unknown data set 'coco'; there is: emoji.\n"
    assert asked == {}


def test_what_is_missing_comes_with_its_exit_code(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def missing(*_: object, **__: object) -> None:
        raise DependencyError("npm is missing; it fetches the art; install Node.js.")

    monkeypatch.setattr(build, "build_emoji", missing)

    assert run(["data", "build", "emoji"]) == 6
    assert capsys.readouterr().err == "error: npm is missing; it fetches the art; install Node.js.\n"
