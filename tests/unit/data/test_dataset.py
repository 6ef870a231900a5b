from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from undiffuse.core.errors import DataError, UsageError
from undiffuse.data.dataset import open_dataset


def save(path: Path, colour: str = "red") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (20, 20), colour).save(path)


def write_tar(path: Path, files: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def picture_bytes(colour: str = "red") -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (20, 20), colour).save(out, "PNG")
    return out.getvalue()


def test_text_files_beside_pictures_are_captions(tmp_path: Path) -> None:
    save(tmp_path / "b.png", "blue")
    save(tmp_path / "a.jpg")
    (tmp_path / "a.txt").write_text("  a red\nsquare ")
    dataset = open_dataset(tmp_path)
    assert [(row.key, row.caption) for row in dataset.rows] == [("a.jpg", "a red square"), ("b.png", "")]
    assert dataset.read(1).getpixel((0, 0)) == (0, 0, 255)


def test_sub_folders_are_classes(tmp_path: Path) -> None:
    for name in ("tabby_cat", "dog"):
        save(tmp_path / name / "1.png")
    dataset = open_dataset(tmp_path)
    assert dataset.classes == ["dog", "tabby_cat"]
    assert [(row.label, row.caption) for row in dataset.rows] == [("dog", "dog"), ("tabby_cat", "tabby cat")]


def test_split_folders_are_splits_and_not_classes(tmp_path: Path) -> None:
    for name in ("train/cat/1.png", "train/dog/2.png", "Validation/cat/3.png"):
        save(tmp_path / name)
    assert [row.label for row in open_dataset(tmp_path, "val").rows] == ["cat"]
    assert open_dataset(tmp_path, "val").classes == ["cat", "dog"]
    assert len(open_dataset(tmp_path, "train")) == 2


@pytest.mark.parametrize(
    ("table", "file", "caption"), [("metadata.jsonl", "file_name", "text"), ("captions.jsonl", "file", "caption")]
)
def test_lists_name_files_and_captions(tmp_path: Path, table: str, file: str, caption: str) -> None:
    save(tmp_path / "sub" / "a.png")
    rows = [
        {file: "sub/a.png", caption: "a\x85square", "label": 3, "mood": "calm"},
        {file: "gone.png", caption: "x"},
        {file: "../secret.png"},
        {caption: "nothing"},
    ]
    (tmp_path / table).write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\nnot json\n\n[1]\n")
    dataset = open_dataset(tmp_path)
    assert [(row.key, row.caption, row.label, row.fields) for row in dataset.rows] == [
        ("sub/a.png", "a\x85square", "3", {"mood": "calm"})
    ]
    reasons = " ".join(f"{problem.name} {problem.reason}" for problem in dataset.problems)
    for part in ("gone.png is listed", "../secret.png lies outside", "names no file", "line 5 is not", "line 7 is not"):
        assert part in reasons


def test_listed_files_may_be_links(tmp_path: Path) -> None:
    save(tmp_path / "elsewhere" / "a.png")
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "a.png").symlink_to(tmp_path / "elsewhere" / "a.png")
    (folder / "metadata.jsonl").write_text('{"file_name": "a.png", "text": "a square"}')
    assert open_dataset(folder).read(0).size == (20, 20)


def test_webdataset_tars(tmp_path: Path) -> None:
    described = json.dumps({"caption": "from json", "artist": "me"}).encode()
    write_tar(tmp_path / "b.tar", {"x/1.png": picture_bytes("blue"), "x/1.json": described})
    write_tar(tmp_path / "a.tar", {"1.PNG": picture_bytes(), "1.txt": b"from text", "1.cls": b"7", "2.txt": b"alone"})
    dataset = open_dataset(tmp_path)
    assert [(row.key, row.caption, row.label) for row in dataset.rows] == [
        ("a/1", "from text", "7"),
        ("b/x/1", "from json", None),
    ]
    assert dataset.rows[1].fields == {"artist": "me"}
    assert dataset.read(1).getpixel((0, 0)) == (0, 0, 255)
    assert [problem.name for problem in dataset.problems] == ["a/2"]
    assert len(open_dataset(tmp_path / "b.tar")) == 1


@pytest.mark.parametrize(("kept", "rest"), [(1024, b"\xff" * 2048), (1560, b""), (1200, b"")])
def test_a_damaged_tar_keeps_what_is_whole(tmp_path: Path, kept: int, rest: bytes) -> None:
    write_tar(tmp_path / "a.tar", {"1.png": picture_bytes(), "2.png": picture_bytes()})
    whole = (tmp_path / "a.tar").read_bytes()
    (tmp_path / "a.tar").write_bytes(whole[:kept] + rest)
    dataset = open_dataset(tmp_path)
    assert [row.key for row in dataset.rows] == ["a/1"]
    assert dataset.read(0).size == (20, 20)
    assert "damaged tar after 1 files" in dataset.problems[0].reason


def test_the_built_form_reports_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    write_tar(tmp_path / "shards" / "s.tar", {"s/a.png": picture_bytes()})
    rows = [{"file": f"s/{name}.png", "shard": "s.tar", "caption": name, "split": "val"} for name in "ab"]
    (tmp_path / "captions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    dataset = open_dataset(tmp_path, "val")
    assert [(row.key, row.caption) for row in dataset.rows] == [("s/a", "a")]
    assert dataset.problems[0].name == "s.tar:s/b.png"


def test_captions_in_another_encoding_are_read_and_noted(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_bytes("café".encode("latin-1"))
    dataset = open_dataset(tmp_path)
    assert dataset.rows[0].caption == "café"
    assert dataset.problems[0].reason == "is not UTF-8; read as Latin-1"


def test_hidden_files_and_folders_are_left_alone(tmp_path: Path) -> None:
    for name in ("a.png", "._a.png", ".cache/b.png", "__MACOSX/c.png"):
        save(tmp_path / name)
    assert [row.key for row in open_dataset(tmp_path).rows] == ["a.png"]


def test_a_picture_that_vanished_is_refused_by_name(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    dataset = open_dataset(tmp_path)
    (tmp_path / "a.png").unlink()
    with pytest.raises(DataError, match=r"a\.png cannot be read"):
        dataset.read(0)


def test_a_wrong_extension_does_not_matter(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(picture_bytes("blue"))
    assert open_dataset(tmp_path).read(0).getpixel((0, 0)) == (0, 0, 255)


def test_sets_without_splits_get_the_same_small_validation_part_every_time(tmp_path: Path) -> None:
    rows = []
    save(tmp_path / "a.png")
    for number in range(400):
        path = tmp_path / f"{number}.png"
        path.hardlink_to(tmp_path / "a.png")
        rows.append(path.name)
    held = {row.key for row in open_dataset(tmp_path, "val").rows}
    assert 8 <= len(held) <= 34
    (tmp_path / "0.png").unlink()
    assert {row.key for row in open_dataset(tmp_path, "val").rows} == held - {"0.png"}


def test_even_a_tiny_set_has_a_validation_picture(tmp_path: Path) -> None:
    for name in "abc":
        save(tmp_path / f"{name}.png")
    assert (len(open_dataset(tmp_path, "train")), len(open_dataset(tmp_path, "val"))) == (2, 1)


def test_nothing_usable_is_an_error_that_says_what_is_allowed(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no usable picture"):
        open_dataset(tmp_path)
    (tmp_path / "a.zip").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"a\.zip is no folder and no \.tar file"):
        open_dataset(tmp_path / "a.zip")
    with pytest.raises(DataError, match="is not there"):
        open_dataset(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="train, val and all"):
        open_dataset(tmp_path, "test")  # type: ignore[arg-type]
