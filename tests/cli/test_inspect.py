"""`undiffuse inspect` reads headers and tells a damaged file from a foreign one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from undiffuse.checkpoints.describe import describe_file
from undiffuse.checkpoints.headers import read_header
from undiffuse.checkpoints.tensors import save_tensors
from undiffuse.cli import inspect
from undiffuse.cli.main import run
from undiffuse.core.errors import CheckpointError, UnknownFormat


@pytest.fixture
def file(tmp_path: Path) -> Path:
    tensors = {
        "conv.weight": torch.zeros(2, 3),
        "conv.bias": torch.zeros(2),
        "head.scale": torch.zeros((), dtype=torch.float16),
    }
    save_file(tensors, tmp_path / "net.safetensors", metadata={"format": "pt"})
    return tmp_path / "net.safetensors"


def test_a_file(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", str(file), "--json"]) == 0

    told = json.loads(capsys.readouterr().out)["files"]["net.safetensors"]
    assert told["tensors"] == 3
    assert told["types"] == {"F32": 8, "F16": 1}
    assert told["parts"] == {"conv": 8, "head": 1}
    assert told["metadata"] == {"format": "pt"}


def test_a_folder(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    schedule, conditioners = {"kind": "flow"}, [{"kind": "text"}]
    spec = {
        "name": "tiny",
        "size": 16,
        "denoiser": {},
        "prediction": "flow",
        "schedule": schedule,
        "conditioners": conditioners,
        "usual": {"steps": 8, "guidance": 2.0},
    }
    (file.parent / "spec.json").write_text(json.dumps(spec))

    assert run(["inspect", str(file.parent)]) == 0

    told = capsys.readouterr().out
    assert "tiny: 16 pixels, predicts flow on schedule flow" in told
    assert "conditioned on text" in told
    assert "usually drawn with steps = 8, guidance = 2.0" in told
    assert "net.safetensors: 0.00 M numbers in 3 tensors, F32, F16" in told


def test_numbers_in_few_bits_are_counted_as_such(tmp_path: Path) -> None:
    weights = {"matrix": torch.ones(4, 128), "vector": torch.ones(10)}
    for form, types in {"fp16": {"F16": 522}, "int8": {"I8": 512, "F16": 10}, "int4": {"U8": 512, "F16": 10}}.items():
        save_tensors(weights, tmp_path / "net.safetensors", form)
        told = describe_file(tmp_path / "net.safetensors")
        assert (told["tensors"], told["parameters"], told["types"]) == (2, 522, types)
    save_tensors({"matrix": torch.ones(4, 70)}, tmp_path / "net.safetensors", "int4")
    assert describe_file(tmp_path / "net.safetensors")["parameters"] == 4 * 128  # rows are filled up to groups of 64


def test_the_autoencoder_of_a_run(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tmp_path / "run" / "model"
    model.mkdir(parents=True)
    file.rename(model / file.name)
    (model / "spec.json").write_text(json.dumps({"autoencoder": {"latent_channels": 8}}))

    assert run(["inspect", str(tmp_path / "run")]) == 0
    assert "an autoencoder alone, 8 latent channels" in capsys.readouterr().out


def test_without_an_embedded_model_one_must_be_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(inspect, "EMBEDDED", tmp_path / "none")

    assert run(["inspect"]) == 4
    assert "carries no default model" in capsys.readouterr().err


def test_files_of_other_kinds_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.ckpt").write_bytes(b"PK\x03\x04" + bytes(100))

    with pytest.raises(UnknownFormat, match="is no safetensors file"):
        read_header(tmp_path / "x.ckpt")
    with pytest.raises(CheckpointError, match="is not there"):
        read_header(tmp_path / "none.safetensors")
    assert run(["inspect", str(tmp_path)]) == 4
    assert "is no model folder" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"\x02", bytes(8), b"\x05" + bytes(7) + b"[1,2]", b"\x02" + bytes(7) + b"{]"])
def test_damaged_headers_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(content)

    with pytest.raises(UnknownFormat):
        read_header(tmp_path / "x.safetensors")


def test_a_file_that_was_cut_short_is_told_as_such(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-3])

    with pytest.raises(CheckpointError, match="its header tells of"):
        read_header(file)
