"""Pickles are told of without running them; NaN and hashes are found without torch."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from undiffuse.checkpoints.describe import describe_file
from undiffuse.checkpoints.file_hashes import hashes_of
from undiffuse.checkpoints.foreign_tensors import read_tensors
from undiffuse.checkpoints.pickled_headers import read_pickle_header
from undiffuse.checkpoints.scan import faults
from undiffuse.cli.main import run
from undiffuse.core.errors import CheckpointError, UnknownFormat

STATE = {
    "layer.weight": torch.ones(3, 4).half(),
    "layer.bias": torch.nn.Parameter(torch.zeros(2)),
    "steps": torch.tensor(7),
    "brain": torch.ones(2, 2).bfloat16(),
}
DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.float8_e5m2]


class Malice:
    """Makes a folder when it is unpickled by a reader that runs things."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("zipped", [True, False], ids=["of today", "of torch before 1.6"])
def test_names_types_and_shapes_are_those_that_torch_reads(zipped: bool, tmp_path: Path) -> None:
    path = tmp_path / "model.ckpt"
    torch.save({"state_dict": STATE, "epoch": 3}, path, _use_new_zipfile_serialization=zipped)
    found = read_pickle_header(path)
    types = {torch.float16: "F16", torch.float32: "F32", torch.int64: "I64", torch.bfloat16: "BF16"}
    expected = {name: {"dtype": types[t.dtype], "shape": list(t.shape)} for name, t in read_tensors(path)[0].items()}
    assert found.tensors == expected
    assert found.strange == []


def test_what_a_pickle_wants_to_run_is_named_and_not_run(tmp_path: Path) -> None:
    path, folder = tmp_path / "evil.ckpt", tmp_path / "made"
    torch.save({"state_dict": STATE | {"evil": Malice(folder)}}, path)
    told = describe_file(path)
    assert not folder.exists()
    assert told["readable"] is False
    assert "mkdir" in told["remedy"]


@pytest.mark.parametrize("content", [b"", b"nonsense", b"PK\x03\x04 no zip", b"\x80\x02}q\x00."])
def test_other_files_are_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.ckpt"
    path.write_bytes(content)
    with pytest.raises((CheckpointError, UnknownFormat)):
        read_pickle_header(path)


@pytest.mark.parametrize("dtype", DTYPES)
def test_nan_infinity_and_empty_matrices_are_found(dtype: torch.dtype, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    odd = torch.tensor([[float("nan"), float("inf")], [-float("inf"), 1.0]])
    whole = torch.tensor([[1.5, -2.0], [0.0, -0.0]])
    tensors = {"odd": odd, "whole": whole, "empty": torch.zeros(2, 3), "bias": torch.zeros(3)}
    save_file({name: tensor.to(dtype) for name, tensor in tensors.items()}, path)
    found = {fault.name: fault for fault in faults(path)}
    assert set(found) == {"odd", "empty"}
    assert (found["odd"].nan, found["odd"].infinite, found["odd"].zero) == (1, 2, False)
    assert found["empty"].zero


def test_hashes_are_those_of_the_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"a": torch.arange(600_000, dtype=torch.float32)}, path)
    data = path.read_bytes()
    behind = 8 + int.from_bytes(data[:8], "little")
    whole = hashlib.sha256(data).hexdigest()
    assert hashes_of(path) == {
        "sha256": whole,
        "model hash": whole[:10],
        "AutoV1": hashlib.sha256(data[0x100000:0x110000]).hexdigest()[:8],
        "AutoV3": hashlib.sha256(data[behind:]).hexdigest()[:12],
    }


def test_inspect_tells_of_both(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "lora.safetensors"
    down, up = torch.full((4, 8), float("nan")), torch.ones(8, 4)
    save_file({"lora_unet_a.lora_down.weight": down, "lora_unet_a.lora_up.weight": up}, path)
    assert run(["inspect", str(path), "--hash", "--check", "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)["files"].values()
    assert told["kind"] == "a LoRA of rank 4 for a model that it does not tell"
    assert told["hashes"] == hashes_of(path)
    assert told["faults"] == ["lora_unet_a.lora_down.weight: 32 NaN, 0 infinite of 32"]
