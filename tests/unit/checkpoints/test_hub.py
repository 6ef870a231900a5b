"""Models from the hub's cache, laid out as huggingface_hub lays it out; no connection is made."""

from __future__ import annotations

import socket
from pathlib import Path

import huggingface_hub.constants
import pytest

from undiffuse.checkpoints.api import find_folder, load_model, save_model
from undiffuse.checkpoints.hub import is_hub_id
from undiffuse.core.errors import CheckpointError
from undiffuse.model.latent_diffusion import LatentDiffusion

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, offline, in which opening a socket is an error."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(socket, "socket", refuse)
    return tmp_path


def test_a_cached_model_loads_offline_by_its_id(cache: Path, tiny_model: LatentDiffusion) -> None:
    repository = cache / "models--somebody--tiny"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    save_model(tiny_model, repository / "snapshots" / COMMIT)

    assert load_model("somebody/tiny").fingerprint == tiny_model.fingerprint
    assert find_folder(f"somebody/tiny@{COMMIT}") == find_folder("somebody/tiny")


def test_what_is_not_in_the_cache_is_an_error_that_names_it(cache: Path) -> None:
    with pytest.raises(CheckpointError, match="somebody/absent"):
        load_model("somebody/absent")


def test_a_repository_of_another_kind_is_refused(cache: Path) -> None:
    repository = cache / "models--somebody--words"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    (repository / "snapshots" / COMMIT).mkdir(parents=True)
    (repository / "snapshots" / COMMIT / "README.md").write_text("something else")

    with pytest.raises(CheckpointError, match=r"somebody/words holds no spec\.json"):
        load_model("somebody/words")


@pytest.mark.parametrize("source", ["runs/emoji/model", "./model", "../a/b", "model", "/a/b", "a/b/c", "~/model"])
def test_paths_are_not_taken_for_ids(source: str) -> None:
    assert not is_hub_id(source)
