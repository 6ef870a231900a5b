"""Folders that appear whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from undiffuse.checkpoints.folder import replacing
from undiffuse.core.errors import CheckpointError


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text)


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_a_new_folder_holds_what_was_written_and_nothing_lies_beside_it(tmp_path: Path) -> None:
    with replacing(tmp_path / "deep" / "model") as fresh:
        assert not (tmp_path / "deep" / "model").exists()
        write(fresh, spec_json="new")
    assert contents(tmp_path / "deep" / "model") == {"spec.json": "new"}
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["model"]


def test_an_error_half_way_leaves_the_old_model_as_it_was(tmp_path: Path) -> None:
    write(tmp_path / "model", spec_json="old", tokenizer_json="old")
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "model") as fresh:
        write(fresh, spec_json="new")
        raise ZeroDivisionError
    assert contents(tmp_path / "model") == {"spec.json": "old", "tokenizer.json": "old"}
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_an_error_half_way_leaves_no_new_model(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "model") as fresh:
        write(fresh, spec_json="new")
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


def test_files_of_the_old_model_go_and_other_files_stay(tmp_path: Path) -> None:
    write(tmp_path / "model", spec_json="old", conditioner_safetensors="old", tokenizer_json="old", notes_txt="mine")
    write(tmp_path / "model" / "samples", a_txt="a")
    with replacing(tmp_path / "model") as fresh:
        write(fresh, spec_json="new")
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == ["notes.txt", "samples", "spec.json"]
    assert (tmp_path / "model" / "spec.json").read_text() == "new"
    assert contents(tmp_path / "model" / "samples") == {"a.txt": "a"}


@pytest.mark.parametrize(("card", "stays"), [(None, "old"), ("new", "new")])
def test_a_card_stays_unless_the_model_brings_its_own(tmp_path: Path, card: str | None, stays: str) -> None:
    write(tmp_path / "model", README_md="old")
    with replacing(tmp_path / "model") as fresh:
        write(fresh, spec_json="new", **({"README_md": card} if card else {}))
    assert contents(tmp_path / "model") == {"spec.json": "new", "README.md": stays}


def test_a_kill_between_the_two_renames_is_mended(tmp_path: Path) -> None:
    write(tmp_path / ".model.old", spec_json="old", notes_txt="mine")
    write(tmp_path / ".model.new", spec_json="half")
    with replacing(tmp_path / "model") as fresh:
        assert contents(tmp_path / "model") == {"spec.json": "old", "notes.txt": "mine"}
        assert not list(fresh.iterdir())
        write(fresh, spec_json="new")
    assert contents(tmp_path / "model") == {"spec.json": "new", "notes.txt": "mine"}
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_kill_after_the_renames_loses_no_other_files(tmp_path: Path) -> None:
    write(tmp_path / ".model.old", spec_json="old", notes_txt="mine")
    write(tmp_path / "model", spec_json="new")
    with replacing(tmp_path / "model") as fresh:
        write(fresh, spec_json="newer")
    assert contents(tmp_path / "model") == {"spec.json": "newer", "notes.txt": "mine"}


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    write(tmp_path / "photos", a_txt="a")
    with pytest.raises(CheckpointError, match="photos holds files that are no model"), replacing(tmp_path / "photos"):
        pytest.fail("the block must not run")
    assert contents(tmp_path / "photos") == {"a.txt": "a"}


def test_a_file_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "model").write_text("a file")
    with pytest.raises(CheckpointError, match="model is a file; a model is written as a folder"), replacing(tmp_path / "model"):
        pytest.fail("the block must not run")
    assert (tmp_path / "model").read_text() == "a file"
