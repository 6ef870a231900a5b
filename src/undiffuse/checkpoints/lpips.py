"""LPIPS from weight files of the user's own: VGG16 and the learned heads of Zhang et al. 2018.

They come in one file (the state of an `LPIPS` module, or an autoencoder's training checkpoint that holds one) or in
two: VGG16 as torchvision names it, and the heads alone. None of them is part of this package.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from undiffuse.checkpoints.tensors import load_tensors
from undiffuse.core.errors import CheckpointError, MissingKeys, ShapeMismatch, explain
from undiffuse.networks.perceptual import PerceptualDistance
from undiffuse.networks.vgg import Vgg

ALLOWED = "VGG16 and five LPIPS heads are needed"
REMEDY = "name the file of an LPIPS module, or VGG16's and the heads' together: weights = ['vgg16.pth', 'vgg.pth']"
SHOWN = 3


def load_lpips(paths: Iterable[str | Path], backbone: Vgg | None = None) -> PerceptualDistance:
    """The distance whose weights lie in these files, together.

    Args:
        paths: .safetensors or PyTorch files; pickles are read as tensors only.
        backbone: to be filled; VGG16 by default.

    Raises:
        CheckpointError: when a file is missing or holds no tensors.
        MissingKeys: when the files together lack some; the message names them.
        ShapeMismatch: when a tensor has another shape than VGG16's or than a head's.
    """
    files = [Path(path).expanduser() for path in paths]
    told = " and ".join(map(str, files))
    found: dict[str, Tensor] = {}
    for path in files:
        found |= _read(path)
    net = backbone or Vgg()
    wanted = net.state_dict()
    state = {name: _pick(found, names) for name, names in _convolutions(net).items()}
    heads = [_pick(found, [f"lin{i}.model.1.weight", f"lins.{i}.model.1.weight"]) for i in range(len(net.stages))]
    missing = [names[0] for name, names in _convolutions(net).items() if state[name] is None]
    missing += [f"lin{i}.model.1.weight" for i, head in enumerate(heads) if head is None]
    if missing:
        more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
        raise MissingKeys(explain(f"{told} lacks {', '.join(missing[:SHOWN])}{more}", ALLOWED, REMEDY))
    weights = {name: tensor.float() for name, tensor in state.items() if tensor is not None}
    learned = [head.float().flatten() for head in heads if head is not None]
    wrong = [name for name in wanted if weights[name].shape != wanted[name].shape]
    widths = [int(stage[-1].out_channels) for stage in net.stages]  # type: ignore[index]
    wrong += [f"lin{i}" for i, head in enumerate(learned) if len(head) != widths[i]]
    if wrong:
        raise ShapeMismatch(explain(f"{told} has other shapes in {', '.join(wrong[:SHOWN])}", ALLOWED, REMEDY))
    net.load_state_dict(weights)
    return PerceptualDistance(net, learned)


def _convolutions(net: Vgg) -> dict[str, list[str]]:
    """Our name of every tensor, and what it is called in torchvision and in LPIPS."""
    names: dict[str, list[str]] = {}
    index = 0
    for number, stage in enumerate(net.stages):
        for place in range(len(stage)):  # type: ignore[arg-type]
            for kind in ("weight", "bias"):
                theirs = f"{index}.{kind}"
                names[f"stages.{number}.{place}.{kind}"] = [f"features.{theirs}", f"net.slice{number + 1}.{theirs}"]
            index += 2  # the convolution and its ReLU
        index += 1  # the maximum
    return names


def _pick(tensors: Mapping[str, Tensor], names: list[str]) -> Tensor | None:
    """The tensor of one of these names, whatever stands before it."""
    return next((t for key, t in tensors.items() if any(key == name or key.endswith(f".{name}") for name in names)), None)


def _read(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        return load_tensors(path)
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise CheckpointError(explain(f"{path} cannot be read ({reason})", ALLOWED, REMEDY)) from None
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping):
        raise CheckpointError(explain(f"{path} holds a {type(content).__name__}", ALLOWED, REMEDY))
    return {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
