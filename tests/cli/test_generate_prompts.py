"""`undiffuse generate` with a model that reads prompts as Stable Diffusion does: grammars, clip skip, and their PNGs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from undiffuse.checkpoints.api import save_model
from undiffuse.cli.main import run
from undiffuse.conditioners.clip import CLIPEncoderSpec, CLIPSpec
from undiffuse.core.random import normal
from undiffuse.generation.output import read_request
from undiffuse.model.build import build_model
from undiffuse.model.spec import ModelSpec

PROMPT = "a [fox|boat] AND the [sea::0.5] :0.8"


@pytest.fixture(scope="module")
def folder(tiny_spec: ModelSpec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    clip = CLIPSpec(encoders=(CLIPEncoderSpec(width=16, layers=2, heads=2),))
    net = tiny_spec.denoiser.model_dump() | {"vector_width": None}
    spec = tiny_spec.model_dump(mode="json") | {"conditioners": [clip.model_dump()], "denoiser": net}
    path = tmp_path_factory.mktemp("clip")
    model = build_model(ModelSpec.parse(spec))
    with torch.no_grad():
        for name, part in model.parts().items():
            for key, weight in part.named_parameters():
                weight.add_(0.3 * normal(weight.shape, "cli", name, key))
    save_model(model, path)
    return path


def draw(model: Path, out: Path, *options: str) -> int:
    return run(["generate", *options, "--model", str(model), "--seed", "3", "--steps", "3", "--out", str(out)])


def test_the_png_brings_prompt_and_clip_skip_back(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert draw(folder, tmp_path / "one", PROMPT, "--clip-skip", "2") == 0
    (path,) = (tmp_path / "one").glob("*.png")
    with Image.open(path) as picture:
        text = picture.info["parameters"]
    assert text.startswith(f"{PROMPT}\nSteps: 3, ") and ", Clip skip: 2, Version" in text
    request = read_request(path)
    assert (request.prompt, request.clip_skip) == (PROMPT, 2)

    again = ["generate", "--from", str(path), "--model", str(folder), "--out", str(tmp_path / "two")]
    assert run(again) == 0
    assert f"the same pixels as {path}" in capsys.readouterr().err


def test_every_grammar_reads_a_prompt_its_own_way(folder: Path, tmp_path: Path) -> None:
    drawn = {}
    for grammar in ("a1111", "comfyui", "plain"):
        assert draw(folder, tmp_path / grammar, "a (fox:1.5)", "--grammar", grammar) == 0
        (path,) = (tmp_path / grammar).glob("*.png")
        assert read_request(path).context == {"grammar": grammar}
        with Image.open(path) as picture:
            drawn[grammar] = np.asarray(picture).tobytes()
    assert len(set(drawn.values())) == 3


def test_clip_skip_needs_clip_with_as_many_layers(
    folder: Path, tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert draw(tiny_folder, tmp_path, "a fox", "--clip-skip", "2") == 2
    assert "error: this model cannot read clip_skip; it reads prompts and labels" in capsys.readouterr().err
    assert draw(folder, tmp_path, "a fox", "--clip-skip", "3") == 2
    assert "error: clip_skip = 3; 1 to 2 is allowed with this text encoder" in capsys.readouterr().err
    assert draw(folder, tmp_path, "a fox", "--clip-skip", "0") == 2
    assert list(tmp_path.glob("*.png")) == []
