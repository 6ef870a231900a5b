from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from undiffuse.core.errors import Cancelled, DataError, DependencyError, UsageError
from undiffuse.data.dataset import open_dataset
from undiffuse.data.emoji.build import BuildReport, build_emoji
from undiffuse.data.emoji.catalogue import held_out_styles
from undiffuse.data.emoji.raster import Drawing, draw, svg_document
from undiffuse.data.shard_files import read_rows

pytest.importorskip("resvg_py")


def shards(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((out / "shards").iterdir())}


def test_a_build_opens_as_a_data_set(downloads: Path) -> None:
    out = downloads.parent
    report = build_emoji(out, size=32, processes=1)
    dataset = open_dataset(out, "all")
    assert report.count == len(dataset) == 22
    assert report.styles == {
        "3d render": 2,
        "glossy gradient": 3,
        "flat": 3,
        "noto": 3,
        "blob": 3,
        "twemoji": 3,
        "emojione": 3,
        "firefox style": 2,
    }
    fox = next(row for row in dataset.rows if row.key == "fluent-3d/fox")
    assert fox.caption == "fox, 3d render"
    assert fox.fields["keywords"] == ["face", "reynard", "fox face", "animal"]
    assert fox.fields["licence"] == "MIT"
    picture = dataset.read(dataset.rows.index(fox))
    assert (picture.mode, picture.size) == ("RGBA", (32, 32))
    assert picture.getpixel((16, 16))[:3] == pytest.approx((200, 80, 20), abs=8)
    assert picture.getpixel((0, 0))[3] == 0
    summary = json.loads((out / "dataset.json").read_text())
    assert summary["complete"] and summary["count"] == 22 and summary["size"] == 32
    licences = (out / "LICENSES.md").read_text()
    assert "| 3d render | 2 |" in licences and "CC-BY-4.0" in licences and "Microsoft" in licences


def test_a_picture_that_fails_is_reported_and_skipped(downloads: Path) -> None:
    report = build_emoji(downloads.parent, size=32, skins=True, processes=1)
    assert list(report.skipped) == ["noto/person-with-dark-skin-tone-and-beard.png"]
    assert report.styles["noto"] == 3


def test_a_stopped_build_goes_on_and_gives_the_same_bytes(downloads: Path, tmp_path: Path) -> None:
    out = downloads.parent

    def stop_in_noto(done: int, total: int, what: str) -> None:
        if what == "drawing noto":
            raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        build_emoji(out, size=32, progress=stop_in_noto, processes=1)
    with pytest.raises(DataError, match="run the same build again"):
        open_dataset(out)
    early = shards(out)
    assert "fluent-flat.tar" in early and "noto.tar" not in early
    drawn: list[str] = []
    build_emoji(out, size=32, progress=lambda done, total, what: drawn.append(what), processes=1)
    assert "drawing fluent-3d" not in drawn and "drawing noto" in drawn
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    (fresh / ".downloads").symlink_to(downloads)
    build_emoji(fresh, size=32, processes=1)
    assert shards(fresh) == {name: data for name, data in shards(out).items() if not name.endswith(".part")}
    assert (fresh / "captions.jsonl").read_bytes() == (out / "captions.jsonl").read_bytes()


def test_worker_processes_give_the_same_bytes(downloads: Path, tmp_path: Path) -> None:
    build_emoji(downloads.parent, size=16, processes=1)
    twin = tmp_path / "twin"
    twin.mkdir()
    (twin / ".downloads").symlink_to(downloads)
    build_emoji(twin, size=16, processes=2)
    assert shards(twin) == shards(downloads.parent)


def test_another_size_in_the_same_folder_is_refused(downloads: Path) -> None:
    build_emoji(downloads.parent, size=16, processes=1)
    with pytest.raises(DataError, match=r"another size.*choose another folder"):
        build_emoji(downloads.parent, size=32, processes=1)


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text("not ours")
    with pytest.raises(DataError, match="another name, size, skins, packages"):
        build_emoji(tmp_path, processes=1)


def test_a_size_out_of_range_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="16 to 1024"):
        build_emoji(tmp_path, size=8)


def test_without_resvg_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    with pytest.raises(DependencyError, match="pip install"):
        build_emoji(tmp_path)


def test_pictures_drawn_alike_in_one_style_are_kept_once(downloads: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    same = '<rect width="32" height="32" fill="#123"/>'
    monkeypatch.setattr("undiffuse.data.emoji.art_sets.svg_document", lambda icon, pack: svg_document({"body": same}, pack))
    report = build_emoji(downloads.parent, size=16, processes=1)
    assert report.skipped["noto/fox.png"] == "the same picture as noto/grinning-face.png"
    assert [row["concept"] for row in read_rows(downloads.parent / "shards" / "noto.tar")] == ["grinning face"]


def test_xlink_bodies_are_drawn() -> None:
    body = '<defs><circle id="a" cx="8" cy="8" r="8"/></defs><use xlink:href="#a"/>'
    drawn = draw(Drawing("a", 16, svg=svg_document({"body": body}, {"width": 16, "height": 16})))
    assert drawn.problem == "" and drawn.png.startswith(b"\x89PNG")


def test_empty_drawings_are_a_problem() -> None:
    assert draw(Drawing("a", 16, svg=svg_document({"body": ""}, {}))).problem == "the picture is empty"


def test_the_split_holds_out_few_styles_of_common_concepts() -> None:
    styles = ["a", "b", "c", "d", "e", "f", "g", "h"]
    held = {code: held_out_styles(code, styles) for code in map(str, range(2000))}
    assert held_out_styles("7", styles[:2]) == []
    assert max(map(len, held.values())) == 2
    assert 0.05 < sum(map(len, held.values())) / (2000 * len(styles)) < 0.075
    assert held == {code: held_out_styles(code, styles) for code in held}


def test_the_report_is_text_and_plain_data(downloads: Path) -> None:
    out = downloads.parent
    report = build_emoji(out, size=16, skins=True, processes=1)
    lines = report.lines()
    assert lines[0] == f"{out}: 22 pictures in 8 styles"
    assert lines[1].startswith("by style: 3d render 2, glossy gradient 3")
    assert any(line.startswith("left out: noto/person-with-dark-skin-tone-and-beard.png: ") for line in lines)
    assert lines[-1] == f"licences and attribution: {out / 'LICENSES.md'}"
    told = json.loads(json.dumps(report.to_dict()))
    assert (told["folder"], told["count"], list(told["skipped"])) == (str(out), 22, list(report.skipped))


def test_a_long_list_of_what_was_left_out_is_cut_short(tmp_path: Path) -> None:
    report = BuildReport(tmp_path, {}, {}, {}, {f"noto/{number}.png": "the picture is empty" for number in range(13)})
    lines = report.lines()
    assert sum(line.startswith("left out: noto/") for line in lines) == 10
    assert "left out: and 3 more" in lines
    assert not any(line.startswith("by ") for line in lines)
