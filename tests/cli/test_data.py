"""`undiffuse data`: what is built and what is found, for people and for machines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

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
    assert capsys.readouterr().err == "error: unknown data set 'coco'; there are: emoji, scenes.\n"
    assert asked == {}


def test_what_is_missing_comes_with_its_exit_code(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def missing(*_: object, **__: object) -> None:
        raise DependencyError("npm is missing; it fetches the art; install Node.js.")

    monkeypatch.setattr(build, "build_emoji", missing)

    assert run(["data", "build", "emoji"]) == 6
    assert capsys.readouterr().err == "error: npm is missing; it fetches the art; install Node.js.\n"


def test_scenes_are_built_from_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    things = tmp_path / "things"
    things.mkdir()
    rows = []
    for number, (concept, group) in enumerate(
        (("fox", "animal-mammal"), ("pizza", "food-prepared"), ("ship", "transport-water"))
    ):
        cutout = Image.new("RGBA", (32, 32))
        ImageDraw.Draw(cutout).ellipse((4, 4, 28, 28), fill=(200, 60 * number, 40, 255))
        cutout.save(things / f"{concept}.png")
        row = {"file": f"{concept}.png", "caption": concept, "split": "train", "concept": concept, "subgroup": group}
        rows.append(json.dumps({**row, "style": "flat"}))
    (things / "captions.jsonl").write_text("\n".join(rows))
    command = ["data", "build", "scenes", "--out", str(tmp_path / "scenes"), "--from", str(things), "--size", "32", "--json"]

    assert run([*command, "--count", "3", "--seed", "5"]) == 0
    assert json.loads(capsys.readouterr().out)["count"] == 3
    assert run(["data", "check", str(tmp_path / "scenes"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["readable"], told["maps"], told["problems"]) == (3, 3, [])
    assert told["boxes"] >= 3 and set(told["box_labels"]) <= {"fox", "pizza", "ship"}


def test_scenes_without_the_emoji_set_say_how_to_get_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "build", "scenes", "--out", str(tmp_path / "s"), "--from", str(tmp_path / "none")]) == 3
    told = capsys.readouterr().err
    assert "holds no emoji data set" in told and "undiffuse data build emoji --out" in told and told.count("\n") == 1
    assert not (tmp_path / "s").exists()
