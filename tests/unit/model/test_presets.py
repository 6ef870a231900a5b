"""Presets against the parameter counts that their authors published, built without memory for weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from undiffuse.core.errors import SpecError
from undiffuse.model.build import DENOISERS, build_autoencoder
from undiffuse.model.presets import AUTOENCODERS, PRESETS, find_preset
from undiffuse.model.spec import UNetSpec


def count(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def unet(spec: UNetSpec) -> nn.Module:
    with torch.device("meta"):
        return DENOISERS[spec.kind](in_channels=4, out_channels=4, **spec.model_dump(exclude={"kind"}))


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("sd1", 859_520_964), ("sd2-base", 865_910_724), ("sd2-v", 865_910_724), ("sdxl-base", 2_567_463_684)],
)
def test_unets_have_the_published_number_of_parameters(name: str, parameters: int) -> None:
    assert count(unet(PRESETS[name].denoiser)) == parameters


def test_the_inpainting_unet_differs_by_five_channels_of_its_first_convolution() -> None:
    inpainting = PRESETS["sd1"].denoiser.model_copy(update={"spatial_channels": 5})
    assert count(unet(inpainting)) - count(unet(PRESETS["sd1"].denoiser)) == 320 * 5 * 3 * 3


def test_kl_f8_has_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        autoencoder = build_autoencoder(AUTOENCODERS["kl-f8"])
    assert count(autoencoder) == 83_653_863
    assert autoencoder.factor == AUTOENCODERS["kl-f8"].factor == 8


@pytest.mark.parametrize("name", PRESETS)
def test_sizes_can_be_halved_as_often_as_the_nets_need(name: str) -> None:
    preset = PRESETS[name]
    assert preset.size % (preset.codec.autoencoder.factor * preset.denoiser.factor) == 0


def test_an_unknown_preset_is_answered_with_those_there_are() -> None:
    with pytest.raises(SpecError, match="unknown preset 'sd3'; there are: sd1, sd2-base, sd2-v, sdxl-base"):
        find_preset("sd3")
