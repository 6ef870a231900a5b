"""Published models as specs: Stable Diffusion 1.x, 2.x and XL, and the autoencoder that they share.

Sizes are those of the configurations in CompVis/stable-diffusion, Stability-AI/stablediffusion and
Stability-AI/generative-models; `tests/unit/model/test_presets.py` holds them to the published parameter counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from undiffuse.core.spec import pick
from undiffuse.diffusion.schedule import ScheduleSpec
from undiffuse.model.spec import AutoencoderSpec, CodecSpec, LatentSpec, UNetSpec


@dataclass(frozen=True)
class Preset:
    """Everything of a published model but its text encoders; `size` is the side in pixels that it was trained at."""

    size: int
    denoiser: UNetSpec
    codec: CodecSpec
    schedule: ScheduleSpec
    prediction: Literal["eps", "v"]


AUTOENCODERS = {"kl-f8": AutoencoderSpec(latent_channels=4, widths=(128, 256, 512, 512))}

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
_SD_CODEC = CodecSpec(autoencoder=AUTOENCODERS["kl-f8"], latent=LatentSpec(scale=(0.18215,)))
_XL_CODEC = CodecSpec(autoencoder=AUTOENCODERS["kl-f8"], latent=LatentSpec(scale=(0.13025,)))
_SCHEDULE = ScheduleSpec(kind="scaled_linear", beta_start=0.00085, beta_end=0.012, steps=1000)

PRESETS = {
    "sd1": Preset(512, _SD1, _SD_CODEC, _SCHEDULE, "eps"),
    "sd2-base": Preset(512, _SD2, _SD_CODEC, _SCHEDULE, "eps"),
    "sd2-v": Preset(768, _SD2, _SD_CODEC, _SCHEDULE, "v"),
    "sdxl-base": Preset(1024, _XL, _XL_CODEC, _SCHEDULE, "eps"),
}


def find_preset(name: str) -> Preset:
    """The preset of this name.

    Raises:
        SpecError: listing the names there are.
    """
    return pick(PRESETS, name, "preset")
