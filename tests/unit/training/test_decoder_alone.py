"""A decoder that goes on alone: latents stay what they are to the bit, and wrong ones are decoded better."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from undiffuse.checkpoints.api import load_codec
from undiffuse.core.errors import SpecError
from undiffuse.core.random import normal
from undiffuse.training.objectives.autoencoder import AutoencoderTraining
from undiffuse.training.prepare import prepare
from undiffuse.training.recipe import load_recipe
from undiffuse.training.run import train
from undiffuse.training.start import settle

Photos = Callable[..., Path]
ALONE = ["autoencoder=", "objective.learn=decoder", "objective.latent_noise=1.0"]


@pytest.mark.parametrize("kind", ["kl", "vq"])
def test_latents_stay_and_the_decoder_gets_used_to_wrong_ones(
    kind: str, autoencoder_recipe: Path, make_photos: Photos, tmp_path: Path
) -> None:
    sizes = ["autoencoder.kind=vq", "autoencoder.codes=9"] if kind == "vq" else []
    data = [f"data.path={make_photos(8)}", "optimizer.rate=3e-3", "optimizer.ema=0"]
    train(load_recipe(autoencoder_recipe, [*data, *sizes, "run.steps=10", "objective.crop=16"]), tmp_path / "codec")
    changes = [*data, *ALONE, f"objective.start={tmp_path / 'codec'}", "run.steps=30", "objective.crop=16"]
    train(load_recipe(autoencoder_recipe, changes), tmp_path / "alone")

    before, after = (load_codec(str(tmp_path / name))[0] for name in ("codec", "alone"))
    objective = prepare(settle(load_recipe(autoencoder_recipe, changes)), tmp_path / "again", torch.device("cpu"))
    assert isinstance(objective, AutoencoderTraining)
    pixels = objective.batch(0, range(8)).pixels
    with torch.no_grad():
        z = before.encode(pixels)
        assert torch.equal(z, after.encode(pixels))
        wrong = z + 0.5 * normal(z.shape, "test", "wrong")
        errors = [float((codec.decode(wrong) - pixels).square().mean()) for codec in (before, after)]
    assert errors[1] < 0.9 * errors[0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["objective.learn=decoder"], "learn = 'decoder' without objective.start"),
        (["objective.latent_noise=0.5"], r"latent_noise = 0\.5; it is for objective.learn = 'decoder' only"),
    ],
)
def test_a_decoder_alone_needs_an_encoder_that_is_trained(changes: list[str], message: str, autoencoder_recipe: Path) -> None:
    with pytest.raises(SpecError, match=message):
        load_recipe(autoencoder_recipe, changes)
