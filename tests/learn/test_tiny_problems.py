"""Tiny problems that must be learned: a few pictures by heart, two colours by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from undiffuse.checkpoints.api import load_model
from undiffuse.generation.generator import Generator
from undiffuse.generation.request import Request
from undiffuse.training.metrics import read_log
from undiffuse.training.recipe import load_recipe
from undiffuse.training.run import train

Photos = Callable[..., Path]


@pytest.fixture(autouse=True)
def without_tensorboard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("undiffuse.training.metrics._tensorboard", lambda folder, first: None)


def test_an_autoencoder_learns_eight_pictures_by_heart(autoencoder_recipe: Path, make_photos: Photos, tmp_path: Path) -> None:
    changes = ["run.steps=50", "run.batch=8", "run.save_every=50", "optimizer.rate=3e-3", "objective.crop=16"]
    train(load_recipe(autoencoder_recipe, [f"data.path={make_photos(9)}", *changes]), tmp_path)  # one is held out

    psnr = [row["autoencoder/psnr"] for row in read_log(tmp_path)]
    assert psnr[-1] > psnr[0] + 6, "better than the principal components that it starts from"
    assert psnr[-1] > 26


@pytest.fixture
def linear_codec(autoencoder_recipe: Path, make_photos: Photos, tmp_path: Path) -> Path:
    """The principal components of the pictures as a codec: one step that moves next to nothing."""
    changes = [f"data.path={make_photos(12, name='any')}", "run.steps=1", "optimizer.rate=1e-9", "objective.crop=16"]
    train(load_recipe(autoencoder_recipe, changes), tmp_path / "codec")
    return tmp_path / "codec"


def redness(picture: np.ndarray) -> float:
    """How much redder than blue it is, -255 to 255."""
    return float(picture[..., 0].mean() - picture[..., 2].mean())


@pytest.mark.parametrize("told_by", ["captions", "classes"])
def test_a_denoiser_learns_which_word_is_which_colour(
    told_by: str, linear_codec: Path, tiny_folder: Path, diffusion_recipe: Path, make_photos: Photos, tmp_path: Path
) -> None:
    classes = ["conditioners=", "conditioners.label.width=16"]
    words = [f"conditioners.text.source={tiny_folder}"] if told_by == "captions" else classes
    changes = ["run.steps=80", "run.batch=16", "run.save_every=80", "optimizer.rate=3e-3", "optimizer.ema=0.95"]
    # Not 32 channels: each would be a group of its own, whose norm takes the embedding away again.
    wide = ["denoiser.widths=[64]", "denoiser.depths=[1]"]
    data = [f"data.path={make_photos(20, 'folders')}", f"objective.codec={linear_codec}"]
    folder = train(load_recipe(diffusion_recipe, [*data, *words, *changes, *wide]), tmp_path / "run")

    draw = Generator(load_model(folder), device="cpu", precision="fp32", tell=None)
    key = "prompt" if told_by == "captions" else "label"
    red, blue = draw.many(
        [Request(**{key: word, "steps": 10, "seed": 0, "count": 4, "guidance": 2.0}) for word in ("red", "blue")]
    )
    assert min(redness(np.asarray(image)) for image in red.images) > 40
    assert max(redness(np.asarray(image)) for image in blue.images) < -40
