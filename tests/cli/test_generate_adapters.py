"""`undiffuse generate --lora`: the picture changes, its PNG tells why, and it is drawn again the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from undiffuse.cli.main import run
from undiffuse.core.random import normal
from undiffuse.generation.additions import Addition
from undiffuse.generation.output import read_origin, read_request

LAYERS = [f"lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_{name}" for name in ("v", "out_0")]


@pytest.fixture
def lora(tmp_path: Path) -> Path:
    tensors = {f"{layer}.lora_down.weight": normal((2, 64), "cli", layer) for layer in LAYERS}
    tensors |= {f"{layer}.lora_up.weight": normal((64, 2), "cli", layer, "up") for layer in LAYERS}
    save_file(tensors, tmp_path / "Fox, one.safetensors", {"sshs_model_hash": "0123456789abcdef"})
    return tmp_path / "Fox, one.safetensors"


def draw(model: Path, out: Path, *options: str, prompt: str = "fox") -> int:
    return run(["generate", *([prompt] if prompt else []), "--model", str(model), "--seed", "3", "--out", str(out), *options])


def pixels(folder: Path) -> np.ndarray:
    (path,) = folder.glob("*.png")
    with Image.open(path) as picture:
        return np.asarray(picture)


def test_a_lora_changes_the_picture_as_far_as_it_counts(tiny_folder: Path, lora: Path, tmp_path: Path) -> None:
    for name, options in {
        "none": (),
        "zero": ("--lora", f"{lora}:0"),
        "one": ("--lora", str(lora)),
        "half": ("--lora", f"{lora}:0.5"),
    }.items():
        assert draw(tiny_folder, tmp_path / name, "--steps", "2", *options) == 0
    none, zero, one, half = (pixels(tmp_path / name) for name in ("none", "zero", "one", "half"))
    assert (none == zero).all()
    assert (none != one).any() and (none != half).any() and (half != one).any()


def test_the_png_tells_the_lora_in_both_texts(tiny_folder: Path, lora: Path, tmp_path: Path) -> None:
    assert draw(tiny_folder, tmp_path / "out", "--steps", "2", "--lora", f"{lora}:0.8") == 0
    (path,) = (tmp_path / "out").glob("*.png")
    with Image.open(path) as picture:
        text = picture.info["parameters"]
    assert text.startswith("fox <lora:Fox, one:0.8>\n")
    assert 'Lora hashes: "Fox one: 0123456789ab", Version' in text
    assert read_request(path).prompt == "fox"
    origin = read_origin(path)
    assert origin is not None
    assert origin.additions == (Addition("lora", "Fox, one", "0123456789abcdef", 0.8, 0.8),)


def test_a_picture_is_drawn_again_the_same_with_its_lora_and_told_why_not_without(
    tiny_folder: Path, lora: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert draw(tiny_folder, tmp_path / "out", "--steps", "2", "--lora", str(lora)) == 0
    (path,) = (tmp_path / "out").glob("*.png")
    command = ["generate", "--from", str(path), "--model", str(tiny_folder), "--out", str(tmp_path / "again")]
    assert run([*command, "--lora", str(lora)]) == 0
    assert "the same pixels" in capsys.readouterr().err
    assert run(command) == 0
    assert "additions <lora:Fox, one:1> (0123456789ab) then and none now" in capsys.readouterr().err


def test_files_that_do_not_fit_and_wrong_weights_are_refused(
    tiny_folder: Path, lora: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_file({"strange.alpha": torch.ones(1)}, tmp_path / "strange.safetensors")
    save_file({"emb_params": torch.ones(1, 768)}, tmp_path / "word.safetensors")
    for options, code, words in (
        (("--lora", str(tmp_path / "strange.safetensors")), 4, "strange.alpha"),
        (("--lora", str(tmp_path / "absent.safetensors")), 4, "is not there"),
        (("--lora", f"{lora}:much"), 2, "FILE:WEIGHT"),
        (("--lora", f"{lora}:nan"), 2, "FILE:WEIGHT"),
        (("--lora", str(lora), "--lora", str(lora)), 2, "worn already"),
        (("--embedding", str(tmp_path / "word.safetensors")), 2, "no text encoder"),
    ):
        assert draw(tiny_folder, tmp_path / "out", *options) == code
        assert words in capsys.readouterr().err
    assert not list((tmp_path / "out").glob("*.png"))
