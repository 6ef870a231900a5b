"""A request as JSON from outside: the fields of `Request`, pictures as base64 text."""

from __future__ import annotations

from typing import Annotated, Any, Optional

from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, create_model

from undiffuse.generation.fields import DATA_URL
from undiffuse.generation.request import PICTURES, RANDOM, Request
from undiffuse.serving.limits import Limits

Base64 = Annotated[str, Field(description="A PNG, JPEG, WebP, GIF or BMP file in base64, or a data: URL of one.")]
DESCRIBED = {"seed": "Of the first picture; -1 draws one.", "context": "What a model's own kinds of context read."}
PLAIN = {"seed": Annotated[int, Field(ge=-1, lt=2**64)], "context": dict[str, Any]}
"""Fields whose type in Python is another than in JSON."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


def _field(name: str) -> tuple[Any, Any]:
    known = Request.model_fields[name]
    default = RANDOM if name == "seed" else known.get_default(call_default_factory=True)
    if name in PICTURES:
        return Optional[Base64], default  # noqa: UP045 - Annotated takes no |
    if name in PLAIN:
        return PLAIN[name], Field(default, description=DESCRIBED[name])
    return (Annotated[known.annotation, *known.metadata] if known.metadata else known.annotation), default


_FIELDS: Any = {name: _field(name) for name in Request.model_fields}
Drawn: type[BaseModel] = create_model("Drawn", __base__=_Strict, __doc__="What to draw and how.", **_FIELDS)
"""Every field of a `Request`; unknown ones are refused."""


def to_request(told: dict[str, Any], limits: Limits) -> Request:
    """The request that these fields describe, its pictures read with care.

    Raises:
        SpecError: naming every wrong field.
        DataError: for a picture that is none, or too large.
    """
    pictures = {name: opened(told[name], limits) for name in PICTURES if told.get(name) is not None}
    context = {
        name: limits.read_base64(value) if isinstance(value, str) and value.startswith(DATA_URL) else value
        for name, value in (told.get("context") or {}).items()
    }
    return Request(**{**told, **pictures, "context": context})


def opened(picture: Any, limits: Limits) -> Image.Image:
    """A picture of a request, from base64 text if it is not one yet."""
    return picture if isinstance(picture, Image.Image) else limits.read_base64(picture)


def plain(request: Request) -> dict[str, Any]:
    """A request as JSON without its pictures, which may be large, and private."""
    context = {name: value for name, value in request.context.items() if not isinstance(value, Image.Image)}
    told = request.model_copy(update={"context": context})
    return told.model_dump(mode="json", exclude=set(PICTURES), exclude_none=True)
