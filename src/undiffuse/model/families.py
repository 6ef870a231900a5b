"""Stable Diffusion's families as whole models: the published sizes with the text encoders that belong to them."""

from __future__ import annotations

from collections.abc import Sequence

from undiffuse.conditioners.base import PartSpec, Surroundings
from undiffuse.conditioners.clip import CLIPEncoderSpec, CLIPSpec
from undiffuse.conditioners.depth import DepthSpec
from undiffuse.conditioners.lowres import LowResSpec
from undiffuse.conditioners.masked import MaskSpec
from undiffuse.conditioners.size import SizeSpec
from undiffuse.core.spec import pick
from undiffuse.model.presets import PRESETS
from undiffuse.model.spec import ModelSpec, join_routes

CLIP_L = CLIPEncoderSpec(width=768, layers=12, heads=12)
OPENCLIP_H = CLIPEncoderSpec(width=1024, layers=24, heads=16, activation="gelu", skip=1, pad=0)
CLIP_L_OF_XL = CLIP_L.model_copy(update={"skip": 1, "normed": False})
OPENCLIP_BIGG = CLIPEncoderSpec(
    width=1280, layers=32, heads=20, activation="gelu", projection=1280, skip=1, normed=False, pooled=True, pad=0
)
REFINED = ("original_size", "crop", "aesthetic")

CONDITIONERS: dict[str, tuple[PartSpec, ...]] = {
    "sd1": (CLIPSpec(encoders=(CLIP_L,)),),
    "sd2-base": (CLIPSpec(encoders=(OPENCLIP_H,)),),
    "sd2-v": (CLIPSpec(encoders=(OPENCLIP_H,)),),
    "sd2-depth": (CLIPSpec(encoders=(OPENCLIP_H,)), DepthSpec()),
    "x4-upscaler": (CLIPSpec(encoders=(OPENCLIP_H,)), LowResSpec()),
    "sdxl-base": (CLIPSpec(encoders=(CLIP_L_OF_XL, OPENCLIP_BIGG), null="zeros"), SizeSpec()),
    "sdxl-refiner": (CLIPSpec(encoders=(OPENCLIP_BIGG,)), SizeSpec(told=REFINED)),
}
"""What steers each preset."""

INPAINTING = "-inpaint"
"""Ends the name of a family whose U-Net sees a mask and what is around it beside the latent: nine channels in all."""


def family(name: str) -> ModelSpec:
    """The whole model of a family, of most also with "-inpaint" behind its name.

    Args:
        name: "sd1", "sd2-base", "sd2-v", "sd2-depth", "x4-upscaler", "sdxl-base" or "sdxl-refiner".

    Raises:
        SpecError: for an unknown name, listing those there are.
    """
    plain = name.removesuffix(INPAINTING)
    parts = pick(CONDITIONERS, plain, "family")
    return assemble(name, plain, (*parts, MaskSpec()) if name.endswith(INPAINTING) else parts)


def assemble(name: str, preset: str, parts: Sequence[PartSpec]) -> ModelSpec:
    """A model of a preset's sizes that these parts steer; widths that follow from them are filled in."""
    published = PRESETS[preset]
    autoencoder = published.codec.autoencoder
    around = Surroundings(autoencoder.latent_channels, autoencoder.factor)
    fitted = [part.fitted(around) for part in parts]
    tokens, vector, spatial = join_routes(fitted)
    widths = {"context_width": tokens or None, "vector_width": vector or None, "spatial_channels": spatial}
    content = {
        "name": name,
        "size": published.size,
        "codec": published.codec,
        "denoiser": published.denoiser.model_copy(update=widths),
        "conditioners": fitted,
        "schedule": published.schedule,
        "prediction": published.prediction,
    }
    return ModelSpec.parse(content, where=name)
