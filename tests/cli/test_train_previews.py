"""`undiffuse train` with a recipe of kind "preview_decoder": what it says comes next."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from undiffuse.checkpoints.native import save_codec
from undiffuse.cli.main import run
from undiffuse.model.latent_diffusion import LatentDiffusion

RECIPE = """
name = "tiny"
[data]
path = "{photos}"
[objective]
kind = "preview_decoder"
start = "{start}"
crop = 16
net = {{ width = 4, blocks = 1, patch = 2 }}
[data.render]
size = 16
[run]
steps = 1
batch = 2
device = "cpu"
precision = "fp32"
"""


@pytest.fixture
def following(make_photos: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[[Path], str]:
    """What is said to come next after a run that starts from this folder."""

    def train(start: Path) -> str:
        (tmp_path / "recipe.toml").write_text(RECIPE.format(photos=make_photos(3), start=start))
        assert run(["train", str(tmp_path / "recipe.toml"), "--out", str(tmp_path / "run"), "--json"]) == 0
        return json.loads(capsys.readouterr().out)["next"]

    return train


def test_a_whole_model_can_be_drawn_with(following: Callable[[Path], str], tiny_folder: Path) -> None:
    assert following(tiny_folder).startswith("undiffuse generate PROMPT --model ")


def test_an_autoencoder_goes_on_to_stage_two(
    following: Callable[[Path], str], tiny_model: LatentDiffusion, tmp_path: Path
) -> None:
    save_codec(tiny_model.codec.autoencoder, tiny_model.spec.codec, tmp_path / "codec")
    assert following(tmp_path / "codec").startswith("undiffuse train DIFFUSION_RECIPE --set objective.codec=")
