"""What is told beside the pictures: prompts that go unread in part, and words that are read as others."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from tests.conftest import PIECES

from undiffuse.checkpoints.api import save_model
from undiffuse.cli.main import run
from undiffuse.conditioners.thesaurus import Thesaurus
from undiffuse.explain.causes import causes
from undiffuse.generation.again import changed
from undiffuse.generation.metadata import parse_parameters
from undiffuse.generation.output import read_origin, read_told
from undiffuse.model.build import build_model
from undiffuse.model.spec import ModelSpec
from undiffuse.networks.text.wordpiece import build_wordpiece

SHORT = ("--steps", "2", "--seed", "1")


def remarks(model: Path, out: Path, capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    """What `generate` has to remark on these words."""
    assert run(["generate", *words, *SHORT, "--model", str(model), "--out", str(out), "--json"]) == 0
    return json.loads(capsys.readouterr().out)["remarks"]


def test_a_prompt_that_is_too_long_is_told(tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = remarks(tiny_folder, tmp_path, capsys, "a very long prompt")
    assert len(told) == 1 and "goes unread" in told[0] and "'a very long prompt'" in told[0]


def test_words_that_are_read_as_others_are_told(
    tiny_spec: ModelSpec, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, label = tiny_spec.conditioners
    spec = tiny_spec.model_copy(update={"conditioners": (text.model_copy(update={"thesaurus": True}), label)})
    model = build_model(spec, build_wordpiece(PIECES))
    model.conditioner.parts[0].thesaurus = Thesaurus({"vixen": "fox"})
    save_model(model, tmp_path / "reading")
    told = remarks(tmp_path / "reading", tmp_path / "out", capsys, "a vixen", "--negative", "vixens")
    assert told == ["'vixen' is read as 'fox'", "'vixens' is read as 'foxes'"]
    (path,) = (tmp_path / "out").glob("*.png")
    with Image.open(path) as picture:
        assert 'Read as: "vixen: fox, vixens: foxes"' in picture.info["parameters"]
        assert parse_parameters(picture.info["parameters"])["prompt"] == "a vixen"
    origin = read_origin(path)
    assert origin is not None and origin.read_as == "vixen: fox, vixens: foxes"
    assert changed(origin, replace(origin, read_as="")) == "read as vixen: fox, vixens: foxes then and none now"
    assert not changed(replace(origin, read_as=None), origin)  # drawn before that was told
    told, before = read_told(path), read_told(path)
    assert told is not None and before is not None
    del before["origin"]["read_as"]
    assert not causes(before, told)
    before["origin"]["read_as"] = ""
    assert [cause.name for cause in causes(before, told)] == ["read_as"]
