"""Denoiser and decoder as OpenVINO graphs of fixed shape, compiled once and kept on disk.

On a CPU a graph whose shapes are known runs faster than the same net in torch, and the second start skips the
translation. Needs the extra `undiffuse[openvino]`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from undiffuse.core.conditioning import Conditioning
from undiffuse.core.errors import DependencyError, explain
from undiffuse.networks.autoencoder import Coder

SLOTS = ("vector", "tokens", "token_mask", "spatial")  # of a conditioning, in the order in which graphs take them
HINTS = {torch.float32: "f32", torch.bfloat16: "bf16", torch.float16: "f16"}
DEVICE = "CPU"


def graph_cache() -> Path:
    """Where compiled graphs are kept: UNDIFFUSE_CACHE, else under XDG_CACHE_HOME, else ~/.cache."""
    own = os.environ.get("UNDIFFUSE_CACHE")
    return Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "undiffuse"


class Graphs:
    """Compiled graphs by the name of a net and the shapes of its inputs.

    Args:
        cache: folder of what is kept; made when missing. None keeps nothing.
        key: tells weights apart, a model's fingerprint.
        precision: in which the arithmetic may be done.

    Raises:
        DependencyError: when OpenVINO is not installed.
    """

    def __init__(self, cache: Path | None, key: str, precision: torch.dtype = torch.float32) -> None:
        try:
            import openvino
        except ImportError:
            allowed = "the engine 'openvino' translates nets for it"
            raise DependencyError(explain("OpenVINO is not installed", allowed, 'pip install "undiffuse[openvino]"')) from None
        self._openvino: Any = openvino
        self._core = openvino.Core()
        self._folder = None if cache is None else cache / "openvino" / f"{key}-{HINTS[precision]}-{openvino.__version__}"
        self._options: dict[str, Any] = {"INFERENCE_PRECISION_HINT": HINTS[precision], "PERFORMANCE_HINT": "LATENCY"}
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._options["CACHE_DIR"] = str(self._folder)
        self._compiled: dict[str, Any] = {}

    def run(self, name: str, net: nn.Module, inputs: Sequence[Tensor]) -> Tensor:
        """The one output of `net` for these inputs; the graph for their shapes is made when it is first needed."""
        shapes = "x".join(str(tuple(value.shape)).replace(" ", "") for value in inputs)
        place = f"{name}-{hashlib.sha256(shapes.encode()).hexdigest()[:12]}"
        if place not in self._compiled:
            self._compiled[place] = self._core.compile_model(self._translated(place, net, inputs), DEVICE, self._options)
        arrays = [value.detach().contiguous().numpy() for value in inputs]
        return torch.from_numpy(self._compiled[place](arrays, share_inputs=True)[0].copy())

    def _translated(self, place: str, net: nn.Module, inputs: Sequence[Tensor]) -> Any:
        """The graph of a net, from disk if it was made before."""
        kept = None if self._folder is None else self._folder / f"{place}.xml"
        if kept is not None and kept.is_file():
            return self._core.read_model(kept)
        with torch.no_grad():
            shapes = [tuple(value.shape) for value in inputs]
            graph = self._openvino.convert_model(net, example_input=tuple(inputs), input=shapes)
        if kept is not None:
            fresh = kept.with_name(f"{place}.new.xml")  # the weights first: without its .xml a .bin is not looked at
            self._openvino.save_model(graph, fresh, compress_to_fp16=False)
            fresh.with_suffix(".bin").replace(kept.with_suffix(".bin"))
            fresh.replace(kept)
        return graph


class GraphNetwork(nn.Module):
    """A denoising network that answers by graphs; the net itself stays for shapes not yet seen."""

    def __init__(self, network: nn.Module, graphs: Graphs) -> None:
        super().__init__()
        self.network = network
        self.graphs = graphs

    def forward(self, x: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        """The network's output (B, C, h, w) for x (B, C, h, w), t (B,) and its conditioning, all on the CPU."""
        told = {name: value for name in SLOTS if (value := getattr(cond, name)) is not None}
        flat = _Flat(self.network, tuple(told))
        return self.graphs.run("-".join(("denoiser", *told)), flat, [x, t, *told.values()])


class _Flat(nn.Module):
    """A network that takes the slots of its conditioning one by one, as graphs want them."""

    def __init__(self, network: nn.Module, slots: tuple[str, ...]) -> None:
        super().__init__()
        self.network = network
        self.slots = slots

    def forward(self, x: Tensor, t: Tensor, *values: Tensor) -> Tensor:
        return self.network(x, t, Conditioning(**dict(zip(self.slots, values, strict=True))))


class GraphDecoder(Coder):
    """An autoencoder whose decoder is a graph; it encodes as before."""

    def __init__(self, autoencoder: Coder, graphs: Graphs) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.graphs = graphs

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """As the autoencoder encodes."""
        return self.autoencoder.encode(x)

    def decode(self, z: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) of latents (B, C, h, w)."""
        return self.graphs.run("decoder", _Decoding(self.autoencoder), [z])


class _Decoding(nn.Module):
    """An autoencoder's decoding as the forward of a net, which is what is translated."""

    def __init__(self, autoencoder: Coder) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, z: Tensor) -> Tensor:
        return self.autoencoder.decode(z)
