from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from undiffuse.core.errors import DataError
from undiffuse.data.annotations import decode_map, is_box, same_shape
from undiffuse.data.check import check_dataset
from undiffuse.data.dataset import Dataset, open_dataset

INDICES = np.arange(400, dtype=np.uint8).reshape(20, 20) % 3
BOX = [0.1, 0.2, 0.5, 0.9, "dog"]


def picture(size: tuple[int, int] = (20, 20)) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, "red").save(out, "PNG")
    return out.getvalue()


def index_map(indices: np.ndarray = INDICES, palette: bool = False) -> bytes:
    image = Image.fromarray(indices)
    if palette:
        image = Image.frombytes("P", image.size, image.tobytes())
        image.putpalette([255, 255, 255, 0, 0, 0, 9, 9, 9])
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def write(folder: Path, files: dict[str, bytes | str]) -> Path:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)
    return folder


def write_tar(path: Path, files: dict[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def levels(dataset: Dataset, index: int) -> np.ndarray:
    found = dataset.read_map(index)
    assert found is not None and found.mode == "L"
    return np.asarray(found)


def lines(*rows: dict[str, object]) -> str:
    return "\n".join(json.dumps(row) for row in rows)


@pytest.mark.parametrize("suffix", ["map", "mask"])
def test_folders_have_maps_beside_pictures(tmp_path: Path, suffix: str) -> None:
    files = {"a.jpg": picture(), f"a.{suffix}.png": index_map(palette=True), "a.txt": "a park", "b.png": picture()}
    dataset = open_dataset(write(tmp_path, {**files, "map_classes.txt": "sky\ntree\n road \n"}))
    assert [row.key for row in dataset.rows] == ["a.jpg", "b.png"]
    assert dataset.map_classes == ["sky", "tree", "road"]
    assert np.array_equal(levels(dataset, 0), INDICES) and dataset.read_map(1) is None
    assert dataset.problems == []


def test_a_map_alone_is_a_problem_where_maps_are_meant_and_a_picture_elsewhere(tmp_path: Path) -> None:
    write(tmp_path, {"a.png": picture(), "world.map.png": picture()})
    assert [row.key for row in open_dataset(tmp_path).rows] == ["a.png", "world.map.png"]
    write(tmp_path, {"map_classes.txt": "sky"})
    dataset = open_dataset(tmp_path)
    assert [row.key for row in dataset.rows] == ["a.png"]
    assert [(p.name, p.reason) for p in dataset.problems] == [("world.map.png", "is a map without its picture")]


@pytest.mark.parametrize("key", ["map", "mask"])
def test_lists_name_maps_and_boxes(tmp_path: Path, key: str) -> None:
    rows: list[dict[str, object]] = [
        {"file": "a.png", key: "maps/a.png", "boxes": [BOX]},
        {"file": "b.png", key: "gone.png", "boxes": [BOX, [1, 2, 3]]},
        {"file": "c.png", key: "../a.png", "boxes": None},
    ]
    files = {"a.png": picture(), "b.png": picture(), "c.png": picture(), "maps/a.png": index_map()}
    dataset = open_dataset(write(tmp_path, {**files, "captions.jsonl": lines(*rows), "map_classes.txt": "a\nb\nc"}))
    assert [row.fields for row in dataset.rows] == [{"boxes": [BOX]}, {"boxes": [BOX]}, {"boxes": []}]
    assert np.array_equal(levels(dataset, 0), INDICES)
    reasons = " ".join(f"{problem.name} {problem.reason}" for problem in dataset.problems)
    for part in (
        "gone.png is a map that captions.jsonl lists, and missing",
        "../a.png lies outside",
        "a box that is none: [1, 2, 3]",
    ):
        assert part in reasons


@pytest.mark.parametrize(
    ("classes", "names"), [(["sky", "sea", "sand"], ["sky", "sea", "sand"]), (3, ["class 0", "class 1", "class 2"])]
)
def test_webdataset_tars_bring_maps_boxes_and_classes(tmp_path: Path, classes: object, names: list[str]) -> None:
    told = json.dumps({"caption": "a beach", "classes": classes, "boxes": [BOX]}).encode()
    write_tar(tmp_path / "a.tar", {"1.jpg": picture(), "1.map.png": index_map(), "1.json": told, "2.png": picture()})
    dataset = open_dataset(tmp_path)
    assert dataset.map_classes == names
    assert dataset.rows[0].fields == {"boxes": [BOX]} and dataset.rows[0].caption == "a beach"
    assert np.array_equal(levels(dataset, 0), INDICES) and dataset.read_map(1) is None


@pytest.mark.parametrize("folder", ["shards", "."])
def test_the_built_form_has_maps_in_its_shards(tmp_path: Path, folder: str) -> None:
    write_tar(tmp_path / folder / "s.tar", {"s/a.png": picture(), "s/a.map.png": index_map(), "s/b.png": picture()})
    rows = [{"file": f"s/{n}.png", "map": f"s/{n}.map.png", "shard": "s.tar", "boxes": [BOX]} for n in "ab"]
    write(tmp_path, {"captions.jsonl": lines(*rows), "dataset.json": json.dumps({"map_classes": ["x", "y", "z"]})})
    dataset = open_dataset(tmp_path)
    assert [row.key for row in dataset.rows] == ["s/a", "s/b"] and dataset.map_classes == ["x", "y", "z"]
    assert dataset.rows[0].fields == {"boxes": [BOX]}
    assert np.array_equal(levels(dataset, 0), INDICES) and dataset.read_map(1) is None
    assert [problem.name for problem in dataset.problems] == ["s.tar:s/b.map.png"]


def test_classes_without_names_are_counted(tmp_path: Path) -> None:
    holes = INDICES.copy()
    holes[0] = 255
    dataset = open_dataset(write(tmp_path, {"a.png": picture(), "a.map.png": index_map(holes)}))
    assert dataset.map_classes == ["class 0", "class 1", "class 2"]
    assert dataset.problems[0].name == "map_classes.txt"


def test_indices_beyond_the_classes_say_nothing(tmp_path: Path) -> None:
    dataset = open_dataset(write(tmp_path, {"a.png": picture(), "a.map.png": index_map(), "map_classes.txt": "sky\nsea"}))
    assert np.array_equal(levels(dataset, 0), np.where(INDICES == 2, 255, INDICES))


def test_maps_hold_indices_not_colours() -> None:
    with pytest.raises(DataError, match=r"m\.png is a picture in mode RGB.*save the indices"):
        decode_map(picture(), "m.png")
    with pytest.raises(DataError, match=r"m\.png is not a picture"):
        decode_map(b"nothing", "m.png")
    with pytest.raises(DataError, match=r"m\.png is damaged"):
        decode_map(index_map()[:60], "m.png")
    binary = io.BytesIO()
    Image.fromarray(INDICES > 1).save(binary, "PNG")
    assert np.array_equal(np.asarray(decode_map(binary.getvalue(), "m")), INDICES > 1)


@pytest.mark.parametrize(
    ("value", "right"),
    [
        (BOX, True),
        ([0, 0, 1, 1, "a"], True),
        ([-0.5, 0, 2, 1, "a"], True),
        ([0.5, 0, 0.5, 1, "a"], False),
        ([0, 0, float("nan"), 1, "a"], False),
        ([0, 0, True, 1, "a"], False),
        ([0, 0, 1, 1, 7], False),
        ({"left": 0}, False),
    ],
)
def test_what_a_box_is(value: object, right: bool) -> None:
    assert is_box(value) is right


def test_shapes_are_the_same_up_to_rounding() -> None:
    assert same_shape((1024, 683), (64, 43)) and not same_shape((64, 64), (64, 60)) and not same_shape((64, 32), (32, 64))


def test_check_counts_maps_and_boxes_and_finds_what_is_wrong(tmp_path: Path) -> None:
    high = np.full((20, 20), 7, np.uint8)
    files: dict[str, bytes | str] = {f"{name}.png": picture() for name in "abcde"}
    maps = {"a": INDICES, "b": INDICES[:10], "c": high, "d": INDICES[:10, :10]}
    files |= {f"{name}.map.png": index_map(indices) for name, indices in maps.items()}
    rows: list[dict[str, object]] = [{"file": f"{n}.png", "map": f"{n}.map.png", "boxes": [BOX]} for n in "abcde"]
    rows[4]["boxes"] = [[10, 10, 100, 50, "dog"]]
    report = check_dataset(write(tmp_path, {**files, "captions.jsonl": lines(*rows), "map_classes.txt": "sky\nsea\nsand"}), 16)
    assert (report.maps, report.boxes, report.box_labels) == (4, 5, {"dog": 5})
    assert report.map_classes == {"sky": 3, "sea": 3, "sand": 3}
    problems = {problem.name: problem.reason for problem in report.problems}
    assert "missing" in problems["e.map.png"]
    assert problems["b.map.png"] == "is 20 x 10 pixels, its picture 20 x 20; both must have the same shape"
    assert problems["c.map.png"].startswith("holds class 7; there are 0 to 2")
    assert problems["e.png"].startswith("has a box outside 0 to 1")
    assert [remark.name for remark in report.remarks] == ["d.map.png"]
    told = report.lines()
    assert "semantic maps: 4" in told and "by class in maps: sky 3, sea 3, sand 3" in told and "boxes: 5" in told
    assert any("1 pictures have no map" in sentence for sentence in report.advice)
