"""Names and shapes of the rarer families in full size, against diffusers' nets of their published configurations."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint, convert_ldm_vae_checkpoint
from torch import Tensor

from undiffuse.checkpoints.keys.nets import codec_names, denoiser_names
from undiffuse.checkpoints.single_file import to_single_file
from undiffuse.model.build import build_empty
from undiffuse.model.families import family

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")

READING = {"cross_attention_dim": 1024, "use_linear_projection": True}
DEPTH = {"in_channels": 5, "block_out_channels": (320, 640, 1280, 1280), "attention_head_dim": (5, 10, 20, 20)}
X4 = {
    "in_channels": 7,
    "block_out_channels": (256, 512, 512, 1024),
    "attention_head_dim": 8,
    "num_class_embeds": 1000,
    "only_cross_attention": (True, True, True, False),
    "down_block_types": ("DownBlock2D", *("CrossAttnDownBlock2D",) * 3),
    "up_block_types": (*("CrossAttnUpBlock2D",) * 3, "UpBlock2D"),
}


def shapes(tensors: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def ours(model: Any, layout: str) -> dict[str, tuple[int, ...]]:
    named = denoiser_names(model, layout), codec_names(model, layout)
    return {names[name]: tuple(t.shape) for net, names in named for name, t in net.state_dict().items()}


@pytest.mark.parametrize(
    ("name", "unet", "widths"), [("sd2-depth", DEPTH, (128, 256, 512, 512)), ("x4-upscaler", X4, (128, 256, 512))]
)
def test_both_layouts_are_those_of_diffusers(name: str, unet: dict[str, Any], widths: tuple[int, ...]) -> None:
    model = build_empty(family(name))
    count = len(widths)
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * count, "up_block_types": ("UpDecoderBlock2D",) * count}
    with torch.device("meta"):
        net = UNet2DConditionModel(**unet, **READING)
        codec = AutoencoderKL(**blocks, block_out_channels=widths, layers_per_block=2, latent_channels=4)
    theirs = shapes(net.state_dict()) | shapes(codec.state_dict())
    kernels = [key for key in theirs if key.startswith(("encoder.mid_block.attentions", "decoder.mid_block.attentions"))]
    same = theirs.keys() - kernels  # the attention of the autoencoder: matrices there, kernels of 1x1 here
    folder = ours(model, "diffusers")
    assert folder.keys() == theirs.keys() and all(folder[key] == theirs[key] for key in same)

    single = to_single_file(model)
    translated = shapes(convert_ldm_unet_checkpoint(single, dict(net.config)))
    translated |= shapes(convert_ldm_vae_checkpoint(single, dict(codec.config)))
    assert translated == theirs
