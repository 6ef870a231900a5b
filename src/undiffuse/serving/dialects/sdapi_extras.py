"""The routes of /sdapi/v1 that draw nothing: reading what a picture tells, and making one larger."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, HTTPException
from PIL import Image, ImageOps
from pydantic import BaseModel, ConfigDict, Field

from undiffuse.core.errors import SpecError, explain
from undiffuse.generation.metadata import parse_parameters
from undiffuse.generation.output import A1111_CHUNK, OWN_CHUNK
from undiffuse.serving.encoding import base64_of, encode
from undiffuse.serving.limits import Limits

UPSCALERS = {"None": None, "Lanczos": Image.Resampling.LANCZOS, "Nearest": Image.Resampling.NEAREST}
BY_FACTOR, BY_SIZE = 0, 1

Side = Annotated[int, Field(ge=1)]


class PngInfoAsked(BaseModel):
    """A picture in base64."""

    image: str


class PngInfo(BaseModel):
    """The text that a picture tells of itself, whatever else stands in it, and that text read."""

    info: str
    items: dict[str, Any]
    parameters: dict[str, Any]


class ExtraAsked(BaseModel):
    """How to resize: `resize_mode` 0 by a factor, 1 to a size."""

    model_config = ConfigDict(extra="allow")

    resize_mode: Annotated[int, Field(ge=0, le=1)] = BY_FACTOR
    upscaling_resize: Annotated[float, Field(gt=0, le=8)] = 2.0
    upscaling_resize_w: Side = 512
    upscaling_resize_h: Side = 512
    upscaling_crop: bool = True
    upscaler_1: str = "None"


class ExtraSingle(ExtraAsked):
    """One picture in base64."""

    image: str


class ExtraBatch(ExtraAsked):
    """Pictures in base64, each with its name."""

    imageList: list[dict[str, str]]


def router(limits: Limits) -> APIRouter:
    """The routes."""
    api = APIRouter()

    @api.post("/png-info")
    def png_info(asked: PngInfoAsked) -> PngInfo:
        """What a picture tells of itself."""
        chunks = {str(name): text for name, text in limits.read_base64(asked.image).info.items() if isinstance(text, str)}
        text = chunks.pop(A1111_CHUNK, "")
        kept = {name: value for name, value in chunks.items() if name != OWN_CHUNK}
        return PngInfo(info=text, items=kept, parameters=parse_parameters(text) if text else {})

    @api.get("/upscalers")
    def upscalers() -> list[dict[str, Any]]:
        """Plain resampling, no nets."""
        rest = {"model_name": None, "model_path": None, "model_url": None, "scale": 4.0}
        return [{"name": name, **rest} for name in UPSCALERS]

    @api.post("/extra-single-image")
    def single(asked: ExtraSingle) -> dict[str, str]:
        """A picture in another size."""
        return {"html_info": "", "image": _resized(asked, asked.image, limits)}

    @api.post("/extra-batch-images")
    def batch(asked: ExtraBatch) -> dict[str, Any]:
        """Pictures in another size."""
        if len(asked.imageList) > limits.count:
            raise SpecError(explain(f"{len(asked.imageList)} pictures", f"this server allows up to {limits.count}"))
        return {"html_info": "", "images": [_resized(asked, one.get("data", ""), limits) for one in asked.imageList]}

    return api


def _resized(asked: ExtraAsked, text: str, limits: Limits) -> str:
    if asked.upscaler_1 not in UPSCALERS:
        raise HTTPException(404, f"Upscaler not found: {asked.upscaler_1!r}; there are: {', '.join(UPSCALERS)}.")
    picture = limits.read_base64(text)
    rule = UPSCALERS[asked.upscaler_1]
    size = (asked.upscaling_resize_w, asked.upscaling_resize_h)
    if asked.resize_mode == BY_FACTOR:
        size = (round(picture.width * asked.upscaling_resize), round(picture.height * asked.upscaling_resize))
    if size[0] * size[1] > limits.pixels or min(size) < 1:
        raise SpecError(explain(f"a picture of {size[0]}x{size[1]}", f"up to {limits.pixels} pixels are made"))
    picture = picture.convert("RGB")
    if rule is not None:
        picture = ImageOps.fit(picture, size, rule) if asked.upscaling_crop else picture.resize(size, rule)
    return base64_of(encode(picture))
