"""Presets against the parameter counts that their authors published, built without memory for weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from undiffuse.core.errors import SpecError
from undiffuse.model.build import DENOISERS, build_autoencoder
from undiffuse.model.presets import AUTOENCODERS, PRESETS, find_preset
from undiffuse.model.spec import UNetSpec

TABLE_8 = [
    ("vq-f32", 16384, 16),
    ("vq-f16", 16384, 8),
    ("vq-f8", 16384, 4),
    ("vq-f8-n256", 256, 4),
    ("vq-f4", 8192, 3),
    ("vq-f4-noattn", 8192, 3),
    ("vq-f4-n256", 256, 3),
    ("vq-f2", 2048, 2),
    ("vq-f2-n64", 64, 2),
    ("kl-f32", None, 64),
    ("kl-f32-c16", None, 16),
    ("kl-f16", None, 16),
    ("kl-f16-c8", None, 8),
    ("kl-f8", None, 4),
    ("kl-f4", None, 3),
    ("kl-f2", None, 2),
]


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


def test_the_upscaler_has_as_many_parameters_as_the_original_is_counted_to_have() -> None:
    assert round(count(unet(PRESETS["x4-upscaler"].denoiser)) / 1e6, 1) == 473.4


def test_the_inpainting_unet_differs_by_five_channels_of_its_first_convolution() -> None:
    inpainting = PRESETS["sd1"].denoiser.model_copy(update={"spatial_channels": 5})
    assert count(unet(inpainting)) - count(unet(PRESETS["sd1"].denoiser)) == 320 * 5 * 3 * 3


@pytest.mark.parametrize(
    ("name", "parameters", "millions"),
    [
        ("kl-f4", 55_312_063, 55.3),
        ("kl-f8", 83_653_863, 83.65),
        ("kl-f16", 69_610_963, 69.6),
        ("kl-f32", 103_880_131, 103.9),
        ("vq-f4", 55_322_782, 55.3),
        ("vq-f4-noattn", 53_219_486, 53.2),
        ("vq-f8", 67_717_295, 67.7),
        ("vq-f8-n256", 67_652_783, 67.7),
        ("vq-f16", 69_593_371, 69.6),
    ],
)
def test_autoencoders_have_the_published_number_of_parameters(name: str, parameters: int, millions: float) -> None:
    with torch.device("meta"):
        autoencoder = build_autoencoder(AUTOENCODERS[name])
    digits = 2 if name == "kl-f8" else 1
    assert count(autoencoder) == parameters
    assert round(parameters / 1e6, digits) == millions


@pytest.mark.parametrize(("name", "codes", "channels"), TABLE_8)
def test_autoencoders_have_the_factor_channels_and_codes_of_the_paper(name: str, codes: int | None, channels: int) -> None:
    spec = AUTOENCODERS[name]
    assert (getattr(spec, "codes", None), spec.latent_channels) == (codes, channels)
    assert spec.factor == int(name.split("-")[1][1:])
    assert spec.kind == name.split("-")[0]


def test_every_autoencoder_of_the_paper_is_there() -> None:
    assert {name for name, _, _ in TABLE_8} == set(AUTOENCODERS)


@pytest.mark.parametrize("name", PRESETS)
def test_sizes_can_be_halved_as_often_as_the_nets_need(name: str) -> None:
    preset = PRESETS[name]
    assert preset.size % (preset.codec.autoencoder.factor * preset.denoiser.factor) == 0


def test_an_unknown_preset_is_answered_with_those_there_are() -> None:
    with pytest.raises(
        SpecError,
        match="unknown preset 'sd3'; there are: sd1, sd2-base, sd2-depth, sd2-v, sdxl-base, sdxl-refiner, x4-upscaler",
    ):
        find_preset("sd3")
