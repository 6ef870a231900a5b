"""`undiffuse explain`: one page that is whole, well formed and asks nobody for anything."""

from __future__ import annotations

import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from undiffuse.cli.main import run
from undiffuse.core.errors import UsageError
from undiffuse.explain import pages
from undiffuse.explain.pages import LIMIT, page_of
from undiffuse.explain.story import tell
from undiffuse.generation.generator import Generator
from undiffuse.generation.request import Request
from undiffuse.model.latent_diffusion import LatentDiffusion

VOID = {"meta", "img", "input", "br", "line", "polyline"}
PROMPT = 'fox & <b>"ox"</b>'


@pytest.fixture(scope="module")
def page(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page about a prompt that is dangerous to quote."""
    path = tmp_path_factory.mktemp("page") / "page.html"
    assert run(["explain", PROMPT, "--model", str(tiny_folder), "--steps", "3", "--seed", "7", "--out", str(path)]) == 0
    return path


class Reader(HTMLParser):
    """Checks that every element is closed where it must be, and keeps what may lead elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[tuple[str, str, str]] = []
        self.images: list[dict[str, str | None]] = []
        self.unnamed: list[str] = []
        self.texts: dict[str, str] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = dict(attrs)
        assert len(told) == len(attrs), f"an attribute of {tag} twice"
        self.ids += [told["id"]] if told.get("id") else []  # type: ignore[list-item]
        self.links += [(tag, name, told[name] or "") for name in ("src", "href", "data", "action", "srcset") if name in told]
        if tag == "img":
            self.images.append(told)
        if tag in ("canvas", "svg") and not told.get("aria-label"):
            self.unnamed.append(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> inside {self.open}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        where = self.open[-1] if self.open else ""
        self.texts[where] = self.texts.get(where, "") + data


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == []
    return reader


def data_of(html: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def picture_of(link: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(link.partition(",")[2])))


def test_the_page_is_well_formed_and_every_picture_is_described(page: Path) -> None:
    reader = read(page.read_text(encoding="utf-8"))

    assert len(set(reader.ids)) == len(reader.ids) and {"noise", "latent", "steps", "guidance", "words"} <= set(reader.ids)
    assert reader.unnamed == [] and len(reader.images) > 20
    assert all("alt" in image for image in reader.images)
    described = [image for image in reader.images if image["alt"]]
    assert len(described) == len(reader.images) - len(
        data_of(page.read_text(encoding="utf-8"))["words"]
    )  # buttons say their word
    assert reader.texts["title"] == f"How this picture came to be: {PROMPT}"


def test_the_page_asks_nobody_for_anything(page: Path) -> None:
    html = page.read_text(encoding="utf-8")
    reader = read(html)

    anchors = {f"#{name}" for name in reader.ids}
    assert all(link.startswith("data:image/") or link in anchors for _, _, link in reader.links)
    assert not re.search(
        r"https?:|//[a-z0-9-]+\.[a-z]|@import|url\(|\bfetch\(|XMLHttpRequest|WebSocket|import\(", html, re.IGNORECASE
    )
    assert "default-src 'none'; img-src data:;" in html
    assert len(html.encode()) < LIMIT


def test_the_numbers_are_those_of_the_model(page: Path, tiny_model: LatentDiffusion) -> None:
    html = page.read_text(encoding="utf-8")
    said = read(html).texts
    data = data_of(html)

    assert re.search(r"16 . 16 . 3 = 768 numbers", said["dd"]) and re.search(r"8 . 8 . 4 = 256 numbers", said["dd"])
    assert tiny_model.fingerprint in html
    assert [row["step"] for row in data["steps"]] == [0, 1, 2] and data["of"] == 3
    assert [row["t"] for row in data["steps"]] == pytest.approx([1000, 2000 / 3, 1000 / 3])
    assert data["words"] == ["fox", "&", "<", "b", ">", '"', "ox"]
    for layer in data["layers"]:
        assert len(base64.b64decode(layer["shares"])) == 3 * 7 * layer["rows"] * layer["columns"]
    for row in data["steps"]:
        assert picture_of(row["xt"]).size == picture_of(row["x0"]).size == (16, 16)


def test_the_picture_on_the_page_verifies(page: Path, tiny_folder: Path, tmp_path: Path) -> None:
    link = next(str(image["src"]) for image in read(page.read_text(encoding="utf-8")).images)
    (tmp_path / "saved.png").write_bytes(base64.b64decode(link.partition(",")[2]))

    assert run(["verify", str(tmp_path / "saved.png"), "--model", str(tiny_folder)]) == 0


def test_a_large_story_has_smaller_pictures(tiny_model: LatentDiffusion, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = Generator(tiny_model, device="cpu", precision="fp32", tell=None)
    story = tell(draw, Request("fox", seed=3, steps=2), words=False)
    monkeypatch.setattr(pages, "SIDES", (16, 8))
    large = page_of(story)
    monkeypatch.setattr(pages, "LIMIT", len(large.encode()))

    small = page_of(story)
    assert len(small) < len(large)
    assert [picture_of(data_of(one)["steps"][0]["xt"]).size for one in (large, small)] == [(16, 16), (8, 8)]
    monkeypatch.setattr(pages, "LIMIT", 1000)
    with pytest.raises(UsageError, match=r"a page of 0 MB; .* draw fewer steps"):
        page_of(story)


def test_machines_are_told_the_chapters(tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["explain", "a fox", "--model", str(tiny_folder), "--steps", "1", "--seed", "7", "--no-words"]
    assert run([*words, "--instead", "a boat", "--out", str(tmp_path / "page.html"), "--json"]) == 0

    told = json.loads(capsys.readouterr().out)
    assert told["path"] == str(tmp_path / "page.html") and told["bytes"] == (tmp_path / "page.html").stat().st_size
    assert told["request"]["seed"] == 7 and "What each word did" not in told["chapters"]
    assert "The same noise, told something else" in told["chapters"]


def test_a_picture_of_a_file_is_explained(tiny_folder: Path, tmp_path: Path) -> None:
    model = ["--model", str(tiny_folder)]
    assert run(["generate", "a fox", "--seed", "7", "--count", "2", "--steps", "2", *model, "--out", str(tmp_path)]) == 0
    assert (
        run(["explain", "--from", str(tmp_path / "00001-8.png"), *model, "--out", str(tmp_path / "page.html"), "--no-words"])
        == 0
    )

    link = next(str(image["src"]) for image in read((tmp_path / "page.html").read_text(encoding="utf-8")).images)
    with Image.open(tmp_path / "00001-8.png") as before:
        assert picture_of(link).tobytes() == before.tobytes()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "nothing to draw was named"),
        (["a fox", "--out", "none/page.html"], "there is no folder none; one that is there is needed; make it"),
        (["a fox", "--solver", "magic"], "unknown solver 'magic'"),
    ],
)
def test_mistakes_are_told_in_one_line(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explain", *words]) == 2
    assert message in capsys.readouterr().err


def test_only_such_a_page_is_overwritten(
    page: Path, tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["explain", "a fox", "--model", str(tiny_folder), "--steps", "1", "--no-words", "--out"]
    (tmp_path / "page.html").write_text("<p>Mine</p>")
    assert run([*words, str(tmp_path / "page.html")]) == 2
    assert "is there and no page of ours; only those are overwritten" in capsys.readouterr().err
    (tmp_path / "page.html").write_bytes(page.read_bytes())
    assert run([*words, str(tmp_path / "page.html")]) == 0
    assert "<title>How this picture came to be: a fox</title>" in (tmp_path / "page.html").read_text(encoding="utf-8")
