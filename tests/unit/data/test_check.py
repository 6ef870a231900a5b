from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from undiffuse.data.check import check_dataset


def noise(seed: int, side: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8))


def flawed(folder: Path) -> Path:
    for name in ("cats", "dogs"):
        (folder / name).mkdir(parents=True)
    noise(0, 200).save(folder / "cats" / "large.png")
    noise(1, 40).save(folder / "cats" / "small.png")
    noise(1, 40).save(folder / "dogs" / "copy.png")
    (folder / "dogs" / "broken.jpg").write_bytes(b"no picture")
    (folder / "dogs" / "zero.png").write_bytes(b"")
    frames = [Image.new("RGB", (128, 128), colour) for colour in ("red", "blue")]
    frames[0].save(folder / "dogs" / "moving.gif", save_all=True, append_images=frames[1:])
    return folder


def test_the_report_counts_and_names(tmp_path: Path) -> None:
    seen: list[int] = []
    report = check_dataset(flawed(tmp_path), 128, progress=lambda done, count, what: seen.append(count))
    assert (report.listed, report.readable, report.smaller_than_size) == (6, 4, 2)
    assert report.classes == {"cats": 2, "dogs": 2}
    assert report.shorter_sides == {"32 to 63": 2, "128 to 255": 2}
    assert report.duplicates == [["cats/small.png", "dogs/copy.png"]]
    assert [problem.name for problem in report.problems] == ["dogs/broken.jpg", "dogs/zero.png"]
    assert [(remark.name, remark.reason) for remark in report.remarks] == [("dogs/moving.gif", "the first of 2 frames is used")]
    assert sum(report.splits.values()) == 4
    assert seen == [6]


def test_the_advice_is_plain(tmp_path: Path) -> None:
    advice = " ".join(check_dataset(flawed(tmp_path), 128).advice)
    assert "2 pictures are smaller than 128 pixels; they will be enlarged" in advice
    assert "2 files or lines cannot be used" in advice
    assert "1 pictures are exact copies" in advice
    assert "2 classes have fewer than 20 pictures: cats, dogs." in advice
    assert "4 pictures are few" in advice


def test_captions_are_counted(tmp_path: Path) -> None:
    for number in range(4):
        noise(number, 32).save(tmp_path / f"{number}.png")
    for number, caption in enumerate(["a cat", "a cat", "word " * 70]):
        (tmp_path / f"{number}.txt").write_text(caption)
    report = check_dataset(tmp_path, 32)
    assert (report.captions_missing, report.captions_repeated) == (1, 2)
    assert len(report.longest_caption.split()) == 70
    assert any("70 words" in sentence for sentence in report.advice)


def test_the_report_is_text_and_plain_data(tmp_path: Path) -> None:
    report = check_dataset(flawed(tmp_path), 128)
    lines = report.lines()
    assert lines[0].endswith("4 of 6 pictures can be read (folder)")
    assert "by class: cats 2, dogs 2" in lines
    assert any(line.startswith("cannot be used: dogs/zero.png: is empty") for line in lines)
    assert json.loads(json.dumps(report.to_dict()))["problems"][0]["name"] == "dogs/broken.jpg"


def test_long_lists_are_cut_short(tmp_path: Path) -> None:
    noise(0, 32).save(tmp_path / "good.png")
    for number in range(15):
        (tmp_path / f"bad{number:02}.png").write_bytes(b"")
    lines = check_dataset(tmp_path, 32).lines()
    assert sum(line.startswith("cannot be used") for line in lines) == 11
    assert "cannot be used: and 5 more" in lines
