"""Engines by name: what does the arithmetic of denoiser and decoder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn

from undiffuse.core.errors import DeviceError, UsageError, explain
from undiffuse.core.spec import pick
from undiffuse.generation.engines.openvino_graphs import GraphDecoder, GraphNetwork, Graphs, graph_cache
from undiffuse.generation.memory import LOW, PLENTY
from undiffuse.model.codec import Codec
from undiffuse.model.denoiser import Denoiser
from undiffuse.model.latent_diffusion import LatentDiffusion

TORCH = "torch"
LARGE = 2**26  # weights of a net from which on kernels for half precision gain by channels that lie side by side


def put_on(
    engine: str,
    model: LatentDiffusion,
    device: torch.device,
    precision: torch.dtype,
    memory: str = PLENTY,
    fingerprint: str | None = None,
) -> LatentDiffusion:
    """A model that works on this device, in this precision, by this engine.

    Args:
        engine: "torch", or "openvino": graphs of fixed shape, compiled when a shape is first drawn, and kept on disk.
        model: its weights are moved in place.
        device: where the work is done.
        precision: of the arithmetic.
        memory: "plenty", or "low" for weights that are brought over a layer at a time.
        fingerprint: the model's, where it is known already: taking it reads every weight.

    Raises:
        SpecError: for an unknown engine.
        DependencyError: when the engine is not installed.
        DeviceError, UsageError: when it cannot do what is asked for.
    """
    return pick(ENGINES, engine, "engine")(model, device, precision, memory, fingerprint)


def _torch(model: LatentDiffusion, device: torch.device, precision: torch.dtype, memory: str, _: str | None) -> LatentDiffusion:
    if memory == LOW:
        return model.rest(device, precision)
    model.to(device=device, dtype=precision)
    arrange(model.denoiser.network, precision)
    return model


def arrange(network: nn.Module, precision: torch.dtype) -> None:
    """Lay the weights of a denoiser out as kernels for this precision like them; the numbers stay what they are."""
    if precision != torch.float32 and sum(weight.numel() for weight in network.parameters()) >= LARGE:
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _openvino(
    model: LatentDiffusion, device: torch.device, precision: torch.dtype, memory: str, fingerprint: str | None
) -> LatentDiffusion:
    if memory == LOW:
        given = "engine 'openvino' with memory = 'low'"
        raise UsageError(explain(given, "graphs hold all weights", "use engine 'torch', or leave the memory out"))
    if device.type != "cpu":
        raise DeviceError(explain(f"engine 'openvino' on {device}", "it works on a CPU", "leave the engine or the device out"))
    if model.adapters.loras:
        given = f"engine 'openvino' with the LoRA {next(iter(model.adapters.loras))}"
        raise UsageError(explain(given, "graphs are made of the nets as their files hold them", "use engine 'torch'"))
    graphs = Graphs(graph_cache(), fingerprint or model.fingerprint, precision)
    model.to(device=device, dtype=torch.float32)  # graphs take float32 in and out, whatever they compute in
    old = model.codec
    codec = Codec(
        GraphDecoder(old.autoencoder, graphs), old.shift.flatten(), old.scale.flatten(), old.factor, old.channels, old.previewer
    )
    denoiser = Denoiser(GraphNetwork(model.denoiser.network, graphs), model.schedule, model.denoiser.prediction)
    made = replace(model, codec=codec, denoiser=denoiser)
    object.__setattr__(made, "adapters", model.adapters)  # what the text encoders have learned stays known
    return made


ENGINES: dict[str, Callable[[LatentDiffusion, torch.device, torch.dtype, str, str | None], LatentDiffusion]] = {
    TORCH: _torch,
    "openvino": _openvino,
}
