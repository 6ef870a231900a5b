"""Single files from end to end, on tiny nets: read, refused, converted, inspected."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from undiffuse.checkpoints import detect, single_file
from undiffuse.checkpoints.api import load_model
from undiffuse.checkpoints.diffusers_folder import load_diffusers_folder
from undiffuse.checkpoints.foreign_tensors import read_tensors
from undiffuse.checkpoints.single_file import load_single_file, to_single_file, write_single_file
from undiffuse.cli.main import run
from undiffuse.core.errors import CheckpointError, MissingKeys, SpecError, UnknownFormat
from undiffuse.core.random import normal
from undiffuse.model.latent_diffusion import LatentDiffusion

Pipelines = Callable[[str], tuple[Any, Path]]
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")


@pytest.fixture
def tiny_families(pipelines: Pipelines, monkeypatch: pytest.MonkeyPatch) -> LatentDiffusion:
    """A tiny model in the place of SD 1.x and 2.x; files with its widths are told to be of 1.x."""
    model = load_diffusers_folder(pipelines("sd1")[1])
    monkeypatch.setattr(detect, "CONTEXTS", {32: "sd1"})
    monkeypatch.setattr(single_file, "family", lambda name: model.spec)
    return model


def same(one: LatentDiffusion, other: LatentDiffusion) -> bool:
    pairs = [(net.state_dict(), other.parts()[part].state_dict()) for part, net in one.parts().items()]
    return all(a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a) for a, b in pairs)


def test_a_file_that_we_wrote_is_read_again(tiny_families: LatentDiffusion, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    write_single_file(tiny_families, path)
    assert same(load_model(path), tiny_families) and load_model(path).spec.name == "model"
    torch.save({"state_dict": to_single_file(tiny_families), "epoch": 3}, tmp_path / "model.ckpt")
    assert same(load_model(tmp_path / "model.ckpt"), tiny_families)


def test_averages_are_read_on_request(tiny_families: LatentDiffusion, tmp_path: Path) -> None:
    tensors = to_single_file(tiny_families)
    unet = {name: tensor for name, tensor in tensors.items() if name.startswith(detect.UNET)}
    averaged = {
        f"{detect.EMA}{name.removeprefix(detect.UNET).replace('.', '')}": t.contiguous() + 1 for name, t in unet.items()
    }
    save_file({**{name: t.contiguous() for name, t in tensors.items()}, **averaged}, tmp_path / "both.safetensors")
    plain, ema = (load_single_file(tmp_path / "both.safetensors", weights=kind) for kind in ("plain", "ema"))
    assert same(plain, tiny_families)
    first = [model.denoiser.network.first.weight for model in (plain, ema)]
    assert torch.equal(first[0] + 1, first[1])
    write_single_file(tiny_families, tmp_path / "one.safetensors")
    with pytest.raises(SpecError, match=r"weights = 'ema'; one\.safetensors holds plain weights"):
        load_single_file(tmp_path / "one.safetensors", weights="ema")


def test_what_sd2_predicts_must_be_told(
    tiny_families: LatentDiffusion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detect, "CONTEXTS", {32: "sd2"})
    path = tmp_path / "v.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in to_single_file(tiny_families).items()}, path)
    with pytest.raises(SpecError, match=r"nothing tells whether it predicts eps or v; .*--prediction v"):
        load_model(path)
    assert load_single_file(path, "v").spec.prediction == "v"
    path.with_suffix(".yaml").write_text('model:\n  params:\n    parameterization: "v"\n')
    assert load_model(path).spec.prediction == "v"


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("run!",)


def test_a_pickle_that_wants_to_run_something_is_refused_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"state_dict": Evil()}, tmp_path / "evil.ckpt")
    with pytest.raises(CheckpointError, match=r"evil\.ckpt asks for (builtins\.|__builtin__\.)?print; .* nothing is ever run"):
        read_tensors(tmp_path / "evil.ckpt")
    (tmp_path / "bare.pt").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(CheckpointError, match=r"bare\.pt"):
        read_tensors(tmp_path / "bare.pt")
    assert "run!" not in capsys.readouterr().out


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    (tmp_path / "page.safetensors").write_text("<html>Not found</html>")
    with zipfile.ZipFile(tmp_path / "empty.ckpt", "w") as archive:
        archive.writestr("x", "y")
    torch.save({"numbers": [1, 2]}, tmp_path / "numbers.pt")
    for name, kind in (("page.safetensors", CheckpointError), ("empty.ckpt", CheckpointError), ("numbers.pt", UnknownFormat)):
        with pytest.raises(kind):
            read_tensors(tmp_path / name)
    with pytest.raises(CheckpointError, match="is not there"):
        read_tensors(tmp_path / "none.ckpt")


def test_convert_goes_round_and_comes_back_the_same(
    tiny_families: LatentDiffusion, pipelines: Pipelines, tmp_path: Path
) -> None:
    start, one, two, three = str(pipelines("sd1")[1]), *(tmp_path / name for name in ("one.safetensors", "two", "three"))
    assert run(["convert", start, "--to", "compvis", "--out", str(one)]) == 0
    assert run(["convert", str(one), "--to", "native", "--out", str(two)]) == 0
    assert run(["convert", str(two), "--to", "diffusers", "--out", str(three), "--precision", "fp16"]) == 0
    assert same(load_model(two), tiny_families)
    weights = load_file(three / "unet/diffusion_pytorch_model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float16}
    half = load_model(three).denoiser.network.state_dict()
    assert all(torch.equal(half[name], t.half()) for name, t in tiny_families.denoiser.network.state_dict().items())


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--to", "onnx", "--out", "x"], "--to onnx; allowed are native, compvis, diffusers"),
        (["--to", "compvis", "--out", "x.ckpt"], "its name ends in .safetensors"),
        (["--to", "compvis", "--out", "x.safetensors", "--precision", "int3"], "--precision int3"),
        (["--to", "native", "--out", "x", "--prediction", "v"], "they are for single files"),
    ],
)
def test_convert_refuses_in_one_line(
    more: list[str],
    told: str,
    pipelines: Pipelines,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = str(pipelines("sd1")[1])
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    assert run(["convert", folder, *more]) == 2
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 1 and not list(tmp_path.iterdir())


def test_a_model_of_ours_has_no_place_in_their_layouts(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["convert", str(tiny_folder), "--to", "compvis", "--out", str(tmp_path / "x.safetensors")]) == 2
    assert "tiny reads text, label; layouts of Stable Diffusion hold CLIP" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_inspect_names_the_family(tiny_families: LatentDiffusion, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_single_file(tiny_families, tmp_path / "model.safetensors")
    save_file({"lora_unet_x.lora_down.weight": torch.zeros(4, 32)}, tmp_path / "lora.safetensors")
    assert run(["inspect", str(tmp_path / "model.safetensors"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["files"]["model.safetensors"]
    assert (told["family"], told["prediction"], told["inpainting"], told["readable"]) == ("sd1", "eps", False, True)
    assert run(["inspect", str(tmp_path / "lora.safetensors")]) == 0
    assert "a LoRA of rank 4" in capsys.readouterr().out


def test_a_file_with_too_little_in_it_is_not_loaded(tiny_families: LatentDiffusion, tmp_path: Path) -> None:
    tensors = {name: t.contiguous() for name, t in to_single_file(tiny_families).items() if "mid.attn_1" not in name}
    save_file(tensors, tmp_path / "cut.safetensors")
    with pytest.raises(MissingKeys, match=r"missing: decoder\.mid\.attn_1\.k\.bias.* and 12 more; .*first_stage_model"):
        load_model(tmp_path / "cut.safetensors")


def test_convert_folds_loras_into_the_weights(tiny_families: LatentDiffusion, pipelines: Pipelines, tmp_path: Path) -> None:
    start, out = str(pipelines("sd1")[1]), tmp_path / "merged.safetensors"
    layer = "mid_block.attentions.0.transformer_blocks.0.attn1.to_v"
    weight = load_file(Path(start) / "unet" / "diffusion_pytorch_model.safetensors")[f"{layer}.weight"]
    down, up = normal((2, weight.shape[1]), "merge", "down"), normal((weight.shape[0], 2), "merge", "up")
    name = f"lora_unet_{layer.replace('.', '_')}"
    told = {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up, f"{name}.alpha": torch.tensor(1.0)}
    save_file(told, tmp_path / "fox.safetensors")

    assert run(["convert", start, "--lora", f"{tmp_path / 'fox.safetensors'}:0.8", "--out", str(out)]) == 0

    found, before = load_file(out), to_single_file(tiny_families)
    changed = [name for name, tensor in found.items() if not torch.equal(tensor, before[name])]
    assert changed == ["model.diffusion_model.middle_block.1.transformer_blocks.0.attn1.to_v.weight"]
    torch.testing.assert_close(found[changed[0]], weight + 0.8 * 0.5 * up @ down)
