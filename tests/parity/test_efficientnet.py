"""EfficientNet-Lite0, norms folded, against transformers' EfficientNet with ReLU6 and its squeeze-and-excitation held open."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from transformers import EfficientNetConfig, EfficientNetForImageClassification

from undiffuse.checkpoints.efficientnet import convert_state
from undiffuse.core.random import normal, uniform
from undiffuse.networks.efficientnet import EfficientNet

CLASSES = 10
OPEN = 30.0  # the sigmoid of this is 1 in float32
# Their names to those of the published weights, applied in this order.
RENAMED = (
    ("efficientnet.embeddings.convolution", "_conv_stem"),
    ("efficientnet.embeddings.batchnorm", "_bn0"),
    ("efficientnet.encoder.top_conv", "_conv_head"),
    ("efficientnet.encoder.top_bn", "_bn1"),
    ("efficientnet.encoder.blocks", "_blocks"),
    ("expansion.expand_conv", "_expand_conv"),
    ("expansion.expand_bn", "_bn0"),
    ("depthwise_conv.depthwise_conv", "_depthwise_conv"),
    ("depthwise_conv.depthwise_norm", "_bn1"),
    ("projection.project_conv", "_project_conv"),
    ("projection.project_bn", "_bn2"),
    ("classifier", "_fc"),
)


@pytest.fixture(scope="module")
def oracle() -> EfficientNetForImageClassification:
    """B0 in the sizes that the configuration has by default, its norms away from where they start."""
    config = EfficientNetConfig(
        width_coefficient=1.0, depth_coefficient=1.0, hidden_dim=1280, hidden_act="relu6", num_labels=CLASSES
    )
    net = EfficientNetForImageClassification(config).eval()
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            if "squeeze_excite" in name:
                tensor.fill_(OPEN if name.endswith("expand.bias") else 0.0)
            elif name.endswith("running_var"):
                tensor.copy_(0.5 + uniform(tensor.shape, "efficientnet", name))
            elif tensor.ndim == 4:
                fan_in = tensor[0].numel()
                tensor.copy_(normal(tensor.shape, "efficientnet", name) * (2 / fan_in) ** 0.5)
            elif tensor.ndim == 1:
                tensor.add_(0.2 * normal(tensor.shape, "efficientnet", name))
    return net


@pytest.fixture(scope="module")
def ours(oracle: EfficientNetForImageClassification) -> EfficientNet:
    state = {}
    for name, tensor in oracle.state_dict().items():
        for theirs, original in RENAMED:
            name = name.replace(theirs, original)
        state[name] = tensor
    net = EfficientNet(classes=CLASSES)
    net.load_state_dict(convert_state(state, net))
    return net.eval()


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.abs().max())


@torch.no_grad()
def test_features_and_logits_equal_the_oracle(oracle: EfficientNetForImageClassification, ours: EfficientNet) -> None:
    pixels = 2 * uniform((2, 3, 64, 96), "efficientnet", "x") - 1
    bytes_ = (pixels + 1) * 127.5
    expected = oracle((bytes_ - 127) / 128, output_hidden_states=True)
    assert relative_error(ours(pixels), expected.logits) <= 1e-5
    last_of_size = {tuple(state.shape[-2:]): state for state in expected.hidden_states[1:]}
    maps = ours.features(pixels)
    assert [m.shape for m in maps] == [m.shape for m in last_of_size.values()]
    assert max(relative_error(m, e) for m, e in zip(maps, last_of_size.values(), strict=True)) <= 1e-5
