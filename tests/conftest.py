"""What all tests share: no network, one thread, and a tiny model with random weights."""

from __future__ import annotations

import socket
import string
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from undiffuse.checkpoints.api import save_model
from undiffuse.core.random import normal
from undiffuse.diffusion.schedule import ScheduleSpec
from undiffuse.model.build import build_model
from undiffuse.model.latent_diffusion import LatentDiffusion
from undiffuse.model.spec import AutoencoderSpec, BertSpec, CodecSpec, LabelSpec, ModelSpec, TextSpec, UNetSpec
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
