"""Published models as specs: the autoencoders of Rombach et al. 2022, table 8, and Stable Diffusion 1.x, 2.x and XL.

Sizes are those of the configurations in CompVis/latent-diffusion, CompVis/stable-diffusion, Stability-AI/stablediffusion
and Stability-AI/generative-models; `tests/unit/model/test_presets.py` holds them to the published parameter counts.

Of the sixteen autoencoders of the table nine are published: kl-f4, kl-f8, kl-f16, kl-f32, vq-f4, vq-f4-noattn, vq-f8,
vq-f8-n256 and vq-f16. Of the others the table gives factor, latent channels and codes. What is ours: kl-f16-c8,
kl-f32-c16, vq-f4-n256 and vq-f32 are the nearest published net with those numbers, and the widths of the three of f = 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from undiffuse.core.spec import pick
from undiffuse.diffusion.schedule import ScheduleSpec
from undiffuse.model.spec import AutoencoderSpec, CodecSpec, LatentSpec, UNetSpec, VQSpec


@dataclass(frozen=True)
class Preset:
    """Everything of a published model but its text encoders; `size` is the side in pixels that it was trained at."""

    size: int
    denoiser: UNetSpec
    codec: CodecSpec
    schedule: ScheduleSpec
    prediction: Literal["eps", "v"]


_F2, _F4 = (128, 256), (128, 256, 512)
_F16, _F32 = (128, 128, 256, 256, 512), (128, 128, 256, 256, 512, 512)  # attention where a 256x256 picture is 16 wide or less
_VQ_F8 = VQSpec(latent_channels=4, widths=(128, 256, 256, 512), attention_levels=(3,), codes=16384)
_KL_F8 = AutoencoderSpec(latent_channels=4, widths=(128, 256, 512, 512))

AUTOENCODERS: dict[str, AutoencoderSpec | VQSpec] = {
    "kl-f2": AutoencoderSpec(latent_channels=2, widths=_F2),
    "kl-f4": AutoencoderSpec(latent_channels=3, widths=_F4),
    "kl-f8": _KL_F8,
    "kl-f16": AutoencoderSpec(latent_channels=16, widths=_F16, attention_levels=(4,)),
    "kl-f16-c8": AutoencoderSpec(latent_channels=8, widths=_F16, attention_levels=(4,)),
    "kl-f32": AutoencoderSpec(latent_channels=64, widths=_F32, attention_levels=(4, 5)),
    "kl-f32-c16": AutoencoderSpec(latent_channels=16, widths=_F32, attention_levels=(4, 5)),
    "vq-f2": VQSpec(latent_channels=2, widths=_F2, codes=2048),
    "vq-f2-n64": VQSpec(latent_channels=2, widths=_F2, codes=64),
    "vq-f4": VQSpec(latent_channels=3, widths=_F4, codes=8192),
    "vq-f4-noattn": VQSpec(latent_channels=3, widths=_F4, mid_attention=False, codes=8192),
    "vq-f4-n256": VQSpec(latent_channels=3, widths=_F4, codes=256),
    "vq-f8": _VQ_F8,
    "vq-f8-n256": _VQ_F8.model_copy(update={"codes": 256}),
    "vq-f16": VQSpec(latent_channels=8, widths=_F16, attention_levels=(4,), codes=16384),
    "vq-f32": VQSpec(latent_channels=16, widths=_F32, attention_levels=(4, 5), codes=16384),
}

_SD1 = UNetSpec(widths=(320, 640, 1280, 1280), depths=(1, 1, 1, 0), heads=8, context_width=768)
_SD2 = UNetSpec(widths=(320, 640, 1280, 1280), depths=(1, 1, 1, 0), head_width=64, context_width=1024, linear_projection=True)
_XL = UNetSpec(
    widths=(320, 640, 1280),
    depths=(0, 2, 10),
    head_width=64,
    context_width=2048,
    vector_width=2816,  # pooled text 1280, then six numbers (original size, crop, target size) of 256 features each
    linear_projection=True,
)
_REFINER = UNetSpec(
    widths=(384, 768, 1536, 1536),
    depths=(0, 4, 4, 0),
    mid_depth=4,
    head_width=64,
    context_width=1280,
    vector_width=2560,  # pooled text 1280, then five numbers (original size, crop, aesthetic score)
    linear_projection=True,
)
_X4 = UNetSpec(
    widths=(256, 512, 512, 1024),
    depths=(0, 1, 1, 1),
    heads=8,
    context_width=1024,
    vector_width=1000,  # noise levels of the small picture
    vector_embedding="table",
    spatial_channels=3,
    linear_projection=True,
    cross_only=(1, 2),
)
_SD_CODEC = CodecSpec(autoencoder=_KL_F8, latent=LatentSpec(scale=(0.18215,)))
_XL_CODEC = CodecSpec(autoencoder=_KL_F8, latent=LatentSpec(scale=(0.13025,)))
_X4_CODEC = CodecSpec(autoencoder=AutoencoderSpec(latent_channels=4, widths=_F4), latent=LatentSpec(scale=(0.08333,)))
_X4_SCHEDULE = ScheduleSpec(kind="scaled_linear", beta_start=0.0001, beta_end=0.02, steps=1000)
_SCHEDULE = ScheduleSpec(kind="scaled_linear", beta_start=0.00085, beta_end=0.012, steps=1000)

PRESETS = {
    "sd1": Preset(512, _SD1, _SD_CODEC, _SCHEDULE, "eps"),
    "sd2-base": Preset(512, _SD2, _SD_CODEC, _SCHEDULE, "eps"),
    "sd2-v": Preset(768, _SD2, _SD_CODEC, _SCHEDULE, "v"),
    "sd2-depth": Preset(512, _SD2, _SD_CODEC, _SCHEDULE, "eps"),
    "x4-upscaler": Preset(512, _X4, _X4_CODEC, _X4_SCHEDULE, "v"),
    "sdxl-base": Preset(1024, _XL, _XL_CODEC, _SCHEDULE, "eps"),
    "sdxl-refiner": Preset(1024, _REFINER, _XL_CODEC, _SCHEDULE, "eps"),
}


def find_preset(name: str) -> Preset:
    """The preset of this name.

    Raises:
        SpecError: listing the names there are.
    """
    return pick(PRESETS, name, "preset")
