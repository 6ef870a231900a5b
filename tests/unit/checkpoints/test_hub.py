"""Models from the hub's cache, laid out as huggingface_hub lays it out; no connection is made."""

from __future__ import annotations

import socket
from pathlib import Path

import huggingface_hub.constants
import pytest

from undiffuse.checkpoints.api import find_folder, load_model, save_model
from undiffuse.checkpoints.hub import fetch_from_hub, hub_id, is_hub_id, wanted_files
from undiffuse.core.errors import CheckpointError, UnknownFormat
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


def snapshot(cache: Path, name: str, files: tuple[str, ...] = ()) -> Path:
    """The folder of a repository of somebody's in the cache, with empty files in it."""
    repository = cache / f"models--somebody--{name}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    folder = repository / "snapshots" / COMMIT
    folder.mkdir(parents=True)
    for file in files:
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).touch()
    return folder


def test_a_cached_model_loads_offline_by_its_id(cache: Path, tiny_model: LatentDiffusion) -> None:
    folder = snapshot(cache, "tiny")
    folder.rmdir()
    save_model(tiny_model, folder)

    assert load_model("somebody/tiny").fingerprint == tiny_model.fingerprint
    assert find_folder(f"somebody/tiny@{COMMIT}") == find_folder("somebody/tiny")


def test_what_is_not_in_the_cache_is_an_error_that_names_it(cache: Path) -> None:
    with pytest.raises(CheckpointError, match="somebody/absent"):
        load_model("somebody/absent")


def test_what_a_pipeline_holds_beside_its_nets_is_not_fetched() -> None:
    weights = [f"{part}/model.safetensors" for part in ("depth_estimator", "safety_checker", "text_encoder")]
    told = ["model_index.json", "low_res_scheduler/scheduler_config.json"]
    wanted = wanted_files([*told, *weights, "unet/diffusion_pytorch_model.safetensors"], "somebody/else")
    assert wanted == [*told, "unet/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors"]


def test_a_repository_of_another_kind_is_refused(cache: Path) -> None:
    snapshot(cache, "words", ("README.md", "data/train.parquet"))

    with pytest.raises(UnknownFormat, match="somebody/words holds no model"):
        load_model("somebody/words")


def test_of_several_single_files_one_must_be_named(cache: Path) -> None:
    folder = snapshot(cache, "many", ("README.md", "v1.safetensors", "v1-inpainting.ckpt"))

    with pytest.raises(UnknownFormat, match=r"v1-inpainting\.ckpt, v1\.safetensors.*name one: somebody/many:v1"):
        fetch_from_hub("somebody/many")
    assert fetch_from_hub("somebody/many:v1-inpainting.ckpt") == folder / "v1-inpainting.ckpt"
    with pytest.raises(UnknownFormat, match=r"no file v2\.safetensors; it holds v1"):
        fetch_from_hub("somebody/many@main:v2.safetensors")


def test_a_single_file_alone_is_taken(cache: Path) -> None:
    folder = snapshot(cache, "one", ("README.md", "one.safetensors"))

    assert fetch_from_hub("somebody/one") == folder / "one.safetensors"


PIPELINE = (
    "model_index.json",
    "scheduler/scheduler_config.json",
    "tokenizer/vocab.json",
    "unet/config.json",
    "unet/diffusion_pytorch_model-00001-of-00002.safetensors",
    "unet/diffusion_pytorch_model-00002-of-00002.safetensors",
    "unet/diffusion_pytorch_model.safetensors.index.json",
    "unet/diffusion_pytorch_model.fp16.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.bin",
    "text_encoder/config.json",
    "text_encoder/model.fp16.safetensors",
    "safety_checker/model.safetensors",
    "v1.safetensors",
)


def test_of_a_pipeline_only_what_is_read_is_fetched() -> None:
    told = {name for name in PIPELINE if name.endswith(".json") and ".index." not in name}
    unet = {name for name in PIPELINE if name.startswith("unet/diffusion")}

    plain = set(wanted_files(PIPELINE, "somebody/sd"))
    half = set(wanted_files([*PIPELINE, "vae/diffusion_pytorch_model.fp16.bin"], "somebody/sd", variant="fp16"))

    assert plain == told | {"vae/diffusion_pytorch_model.bin", "text_encoder/model.fp16.safetensors"} | {
        name for name in unet if "fp16" not in name
    }
    assert half == told | {
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "vae/diffusion_pytorch_model.fp16.bin",
        "text_encoder/model.fp16.safetensors",
    }
    with pytest.raises(UnknownFormat, match="no vae of variant fp16"):
        wanted_files(PIPELINE, "somebody/sd", variant="fp16")


def test_what_the_hub_lists_is_what_is_asked_of_it(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = snapshot(cache, "sd", PIPELINE)
    asked: dict[str, object] = {}

    def download(name: str, **options: object) -> str:
        asked.update(options, name=name)
        return str(folder)

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "list_repo_files", lambda *_, **__: list(PIPELINE))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)

    assert fetch_from_hub("somebody/sd@v2") == folder
    assert asked == {"name": "somebody/sd", "revision": "v2", "allow_patterns": wanted_files(PIPELINE, "somebody/sd")}


def test_a_cache_that_holds_a_part_says_what_is_missing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = snapshot(cache, "sd", PIPELINE[:-4])
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "list_repo_files", lambda *_, **__: list(PIPELINE))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(folder))

    with pytest.raises(CheckpointError, match="without text_encoder/config"):
        load_model("somebody/sd")


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("a/b", ("a/b", None, None)),
        ("a/b@v1", ("a/b", "v1", None)),
        ("a/b:x.safetensors", ("a/b", None, "x.safetensors")),
        ("a/b@refs/pr/1:x/y.ckpt", ("a/b", "refs/pr/1", "x/y.ckpt")),
    ],
)
def test_an_id_names_repository_revision_and_file(source: str, told: tuple[str | None, ...]) -> None:
    assert hub_id(source) == told


@pytest.mark.parametrize("source", ["runs/emoji/model", "./model", "../a/b", "model", "/a/b", "a/b/c", "~/model"])
def test_paths_are_not_taken_for_ids(source: str) -> None:
    assert not is_hub_id(source)
