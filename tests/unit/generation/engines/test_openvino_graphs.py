"""OpenVINO graphs answer as the nets do that they were made from, for any shape, now and from disk."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from undiffuse.core.errors import DependencyError, DeviceError, SpecError
from undiffuse.core.random import normal
from undiffuse.generation.engines.openvino_graphs import GraphDecoder, GraphNetwork, Graphs, graph_cache
from undiffuse.generation.engines.table import put_on
from undiffuse.generation.generator import Generator
from undiffuse.generation.request import Request
from undiffuse.model.latent_diffusion import LatentDiffusion

pytest.importorskip("openvino", reason="the extra undiffuse[openvino] is not installed")
pytestmark = [
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),  # shapes are constants in a graph, on purpose
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # torch.jit, which OpenVINO translates by
]


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.abs().max())


@pytest.mark.parametrize(("count", "side"), [(1, 8), (3, 4)])
@torch.no_grad()
def test_a_denoiser_as_a_graph_answers_as_the_net(count: int, side: int, tiny_model: LatentDiffusion) -> None:
    net = tiny_model.denoiser.network
    graph = GraphNetwork(net, Graphs(None, "tiny"))
    x, t = normal((count, 4, side, side), "graph", count), torch.full((count,), 400.0)
    cond = tiny_model.conditioner([{"caption": "fox", "label": "fox"}] * count)
    assert relative_error(graph(x, t, cond), net(x, t, cond)) <= 1e-4


@torch.no_grad()
def test_a_decoder_as_a_graph_answers_as_the_net(tiny_model: LatentDiffusion) -> None:
    autoencoder = tiny_model.codec.autoencoder
    graph = GraphDecoder(autoencoder, Graphs(None, "tiny"))
    z = normal((2, 4, 8, 8), "graph")
    assert relative_error(graph.decode(z), autoencoder.decode(z)) <= 1e-4
    pixels = normal((1, 3, 16, 16), "graph")
    assert torch.equal(graph.encode(pixels)[0], autoencoder.encode(pixels)[0])


@torch.no_grad()
def test_a_graph_on_disk_is_not_translated_again(
    tiny_model: LatentDiffusion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    z = normal((1, 4, 8, 8), "graph")
    first = GraphDecoder(tiny_model.codec.autoencoder, Graphs(tmp_path, "tiny")).decode(z)

    again = Graphs(tmp_path, "tiny")
    monkeypatch.setattr(again._openvino, "convert_model", _refuse)
    assert torch.equal(GraphDecoder(tiny_model.codec.autoencoder, again).decode(z), first)
    with pytest.raises(AssertionError, match="translated"):
        GraphDecoder(tiny_model.codec.autoencoder, again).decode(normal((1, 4, 4, 4), "graph"))


def _refuse(*_: object, **__: object) -> Callable[..., object]:
    raise AssertionError("translated")


def test_without_openvino_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(DependencyError, match=r"undiffuse\[openvino\]"):
        Graphs(None, "tiny")


def test_the_cache_lies_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("UNDIFFUSE_CACHE", str(tmp_path))
    assert graph_cache() == tmp_path
    monkeypatch.delenv("UNDIFFUSE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert graph_cache() == tmp_path / "x" / "undiffuse"


def test_a_generator_on_graphs_draws_the_same_picture(
    tiny_model: LatentDiffusion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNDIFFUSE_CACHE", str(tmp_path))
    asked = Request("a fox", label="fox", steps=2, seed=1)
    drawn = {}
    taken: list[str] = []
    whole = LatentDiffusion.fingerprint.fget
    monkeypatch.setattr(LatentDiffusion, "fingerprint", property(lambda self: taken.append(whole(self)) or taken[-1]))
    for engine in ("torch", "openvino"):
        draw = Generator(tiny_model, device="cpu", precision="fp32", engine=engine, tell=None)
        drawn[engine] = np.asarray(draw(asked).images[0], dtype=int)
        assert draw.origin.engine == engine and ("openvino" in repr(draw)) == (engine == "openvino")
    assert np.abs(drawn["torch"] - drawn["openvino"]).max() <= 1
    assert len(taken) == 2 and len(set(taken)) == 1  # reading every weight of a large model takes seconds: once a generator


def test_engines_that_are_none_are_told(tiny_model: LatentDiffusion) -> None:
    with pytest.raises(SpecError, match="unknown engine 'steam'; there are: openvino, torch"):
        Generator(tiny_model, engine="steam", tell=None)
    with pytest.raises(DeviceError, match="it works on a CPU"):
        put_on("openvino", tiny_model, torch.device("meta"), torch.float32)
