"""What all tests share: no network, one thread, and a tiny model with random weights."""

from __future__ import annotations

import socket
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn

from undiffuse.checkpoints.api import save_model
from undiffuse.conditioners.labels import LabelSpec
from undiffuse.conditioners.text import BertSpec, TextSpec
from undiffuse.core.random import normal
from undiffuse.diffusion.schedule import ScheduleSpec
from undiffuse.model.build import build_model
from undiffuse.model.latent_diffusion import LatentDiffusion
from undiffuse.model.spec import AutoencoderSpec, CodecSpec, ModelSpec, UNetSpec
from undiffuse.networks.text.wordpiece import MARKS, build_wordpiece

PIECES = [*MARKS, *string.ascii_lowercase, *(f"##{letter}" for letter in string.ascii_lowercase)]

torch.set_num_threads(1)  # tiny tensors: more threads only cost time


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that reaches for another machine fails."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if isinstance(address, tuple) and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise AssertionError(f"a test reached for the network: {address}")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(scope="session")
def tiny_spec() -> ModelSpec:
    """A model of 16 x 16 pixels that reads captions and two classes."""
    return ModelSpec(
        name="tiny",
        size=16,
        codec=CodecSpec(autoencoder=AutoencoderSpec(latent_channels=4, widths=(32, 32), blocks=1, mid_attention=False)),
        denoiser=UNetSpec(widths=(64, 64), blocks=1, depths=(0, 1), heads=2, context_width=16, vector_width=24),
        conditioners=(
            TextSpec(encoder=BertSpec(vocabulary=len(PIECES), width=16, layers=1, heads=2, hidden=24, positions=12), length=12),
            LabelSpec(classes=("fox", "boat"), width=8),
        ),
        schedule=ScheduleSpec(kind="flow"),
        prediction="flow",
    )


@pytest.fixture(scope="session")
def tiny_model(tiny_spec: ModelSpec) -> LatentDiffusion:
    """The model of `tiny_spec` with random weights in every layer, those that start at zero too."""
    model = build_model(tiny_spec, build_wordpiece(PIECES))
    for name, part in model.parts().items():
        _randomise(part, name)
    return model.eval()


def _randomise(part: nn.Module, name: str) -> None:
    with torch.no_grad():
        for key, weight in part.named_parameters():
            fan_in = weight[0].numel() if weight.ndim > 1 else 100
            noise = normal(weight.shape, "test", name, key) / fan_in**0.5
            weight.copy_(noise + 1 if key.endswith("norm.weight") else noise)


@pytest.fixture(scope="session")
def tiny_folder(tiny_model: LatentDiffusion, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model as a folder, for commands; nothing may be written into it."""
    folder = tmp_path_factory.mktemp("tiny")
    save_model(tiny_model, folder)
    return folder


@pytest.fixture
def make_photos(tmp_path: Path) -> Callable[..., Path]:
    """Pictures of a colour with a spot, red and blue in turn, told by "folders", "texts" or "nothing"."""

    def make(count: int, told_by: str = "nothing", name: str = "photos") -> Path:
        folder = tmp_path / name
        for index in range(count):
            word, colour = (("red", (200, 30, 20)), ("blue", (20, 40, 210)))[index % 2]
            picture = Image.new("RGB", (24, 20), colour)
            picture.paste((240, 240, 240), (index % 16, 4, index % 16 + 5, 12))
            path = folder / (word if told_by == "folders" else "") / f"{index:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture.save(path)
            if told_by == "texts":
                path.with_suffix(".txt").write_text(f"{word} picture\n")
        return folder

    return make


TINY_RUN = """
name = "tiny"

[data]
path = "photos"
render = {{ size = 16 }}

{tables}

[optimizer]
warmup = 2

[run]
steps = 6
batch = 4
device = "cpu"
precision = "fp32"
save_every = 2
log_every = 1
preview_every = 0
"""

TINY_AUTOENCODER = """
[objective]
kind = "autoencoder"
crop = 8

[autoencoder]
latent_channels = 4
widths = [32, 32]
blocks = 1
decoder_blocks = 1
mid_attention = false
patch = 2
shortcut = true
"""

TINY_DIFFUSION = """
[objective]
kind = "diffusion"
variants = 2

[denoiser]
widths = [32, 32]
blocks = 1
depths = [0, 1]
heads = 2

[[conditioners]]
kind = "text"
length = 12
"""


@pytest.fixture
def autoencoder_recipe(tmp_path: Path) -> Path:
    """A recipe of six steps, stage one; `--set data.path=...` makes it whole."""
    path = tmp_path / "autoencoder.toml"
    path.write_text(TINY_RUN.format(tables=TINY_AUTOENCODER))
    return path


@pytest.fixture
def diffusion_recipe(tmp_path: Path) -> Path:
    """A recipe of six steps, stage two; it lacks `objective.codec`, and its text encoder is the default's."""
    path = tmp_path / "diffusion.toml"
    path.write_text(TINY_RUN.format(tables=TINY_DIFFUSION))
    return path


def with_objective(recipe: Path, photos: Path, tables: str) -> Path:
    """The recipe in this file, in place, about other pictures and with another objective."""
    text = recipe.read_text()
    head, tail = text.split("[objective]")[0], text.split("[optimizer]")[1]
    recipe.write_text(head.replace('"photos"', f'"{photos}"') + tables + "\n[optimizer]" + tail)
    return recipe
