"""The dialect of OpenAI's images: /v1/images/generations, /v1/images/edits, /v1/models.

Whatever else a `Request` of ours has may be sent beside OpenAI's own parameters, by our names or by those in `ALSO`;
their Python client passes such by `extra_body`. A parameter that nobody knows is refused.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Annotated, Any, Literal

from fastapi import APIRouter, HTTPException
from fastapi import Request as Http
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.datastructures import UploadFile

from undiffuse.core.errors import SpecError, explain
from undiffuse.core.spec import describe_errors
from undiffuse.generation.request import Request
from undiffuse.serving.attending import attend, attended
from undiffuse.serving.desk import Desk
from undiffuse.serving.dialects.openai_edits import masked
from undiffuse.serving.encoding import QUALITY, Format, base64_of, encode, recoded
from undiffuse.serving.jobs import Picture
from undiffuse.serving.live import Event, Live, told
from undiffuse.serving.wire import to_request

DIALECT = "openai"
ALSO = {
    "negative_prompt": "negative",
    "cfg_scale": "guidance",
    "guidance_scale": "guidance",
    "num_inference_steps": "steps",
    "sampler": "solver",
    "sampler_name": "solver",
    "scheduler": "spacing",
    "n": "count",
}
NO_USAGE = {
    "input_tokens": 0,
    "input_tokens_details": {"image_tokens": 0, "text_tokens": 0},
    "output_tokens": 0,
    "total_tokens": 0,
}
"""Nothing here is counted in tokens; their client wants the field all the same."""


class Asked(BaseModel):
    """OpenAI's parameters; those that only their models know (quality, style, moderation, user) change nothing here."""

    model_config = ConfigDict(extra="allow")

    prompt: str
    model: str | None = None
    n: Annotated[int, Field(ge=1)] | None = None
    size: Annotated[str, Field(pattern=r"^(auto|[0-9]{1,5}x[0-9]{1,5})$")] | None = None
    response_format: Literal["url", "b64_json"] | None = None
    output_format: Format | None = None
    output_compression: Annotated[int, Field(ge=0, le=100)] | None = None
    background: Literal["auto", "opaque", "transparent"] | None = None
    stream: bool | None = None
    partial_images: Annotated[int, Field(ge=0, le=3)] | None = None
    quality: str | None = None
    style: str | None = None
    moderation: str | None = None
    input_fidelity: str | None = None
    user: str | None = None
    safety_identifier: str | None = None

    def fields(self) -> dict[str, Any]:
        """The fields of a request that this says.

        Raises:
            SpecError: for a parameter that nobody knows, or a background that cannot be had.
        """
        if self.background == "transparent":
            raise SpecError(explain("background = 'transparent'", "pictures here are opaque", "leave it out"))
        found: dict[str, Any] = {"prompt": self.prompt}
        for name, value in {"n": self.n, **(self.model_extra or {})}.items():
            own = ALSO.get(name, name)
            if own not in Request.model_fields:
                remedy = f"OpenAI's, and {', '.join(Request.model_fields)}"
                raise SpecError(explain(f"unknown parameter {name!r}", f"there are: {remedy}"))
            if value is not None:
                found[own] = value
        if self.size not in (None, "auto"):
            width, _, height = str(self.size).partition("x")
            found |= {"width": int(width), "height": int(height)}
        return found

    @property
    def compression(self) -> int:
        """Quality of JPEG and WebP, 0 to 100."""
        return QUALITY if self.output_compression is None else self.output_compression


def router(desk: Desk) -> APIRouter:
    """The routes of /v1."""
    api = APIRouter(prefix="/v1", tags=["OpenAI"])

    @api.post("/images/generations", response_model=None)
    async def generations(asked: Asked, http: Http) -> JSONResponse | StreamingResponse:
        """Draw pictures from words, as OpenAI's `images.generate` does."""
        return await _answer(desk, asked, asked.fields(), http, "image_generation")

    @api.post("/images/edits", response_model=None, openapi_extra=EDITS)
    async def edits(http: Http) -> JSONResponse | StreamingResponse:
        """Draw from a picture, or anew where the mask is transparent, as OpenAI's `images.edit` does; multipart."""
        async with http.form(max_files=8, max_fields=100) as form:
            uploads = {"image": [], "mask": []}
            texts: dict[str, Any] = {}
            for name, value in form.multi_items():
                plain = name.removesuffix("[]")
                if not isinstance(value, UploadFile):
                    texts[plain] = value
                elif plain in uploads:
                    uploads[plain].append(await value.read())
                else:
                    raise HTTPException(400, f"{name} may not be a file.")
        try:
            asked = Asked.model_validate({name: _plain(value) for name, value in texts.items()})
        except ValidationError as error:
            raise SpecError(describe_errors(error, "parameters")) from None
        pictures = await run_in_threadpool(masked, uploads["image"], uploads["mask"], desk.limits)
        return await _answer(desk, asked, {**asked.fields(), **pictures}, http, "image_edit")

    @api.get("/models")
    def models() -> dict[str, Any]:
        """The models there are."""
        return {"object": "list", "data": [_model(name) for name in desk.models.names]}

    @api.get("/models/{name}")
    def model(name: str) -> dict[str, Any]:
        """One model."""
        return _model(desk.models.find(name).name)

    return api


EDITS = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["image", "prompt"],
                    "properties": {
                        "image": {"type": "string", "format": "binary"},
                        "mask": {"type": "string", "format": "binary"},
                        "prompt": {"type": "string"},
                    },
                }
            }
        },
    }
}


async def _answer(desk: Desk, asked: Asked, fields: dict[str, Any], http: Http, kind: str) -> JSONResponse | StreamingResponse:
    stream = bool(asked.stream)

    def submitted() -> Live:
        request = to_request(fields, desk.limits)
        return desk.submit(request, asked.model, DIALECT, previews=(asked.partial_images or 0) if stream else 0)

    live = await run_in_threadpool(submitted)
    if stream:
        told_ = _stream(desk, asked, live, http, kind)
        return StreamingResponse(told_, media_type="text/event-stream", headers={"Cache-Control": "no-store"})
    last = await attend(desk, live, http)
    if last.error is not None:
        raise last.error
    pictures = await run_in_threadpool(desk.jobs.pictures, live.job.id)
    data = [await run_in_threadpool(_data, desk, asked, picture, http) for picture in pictures]
    return JSONResponse({"created": int(live.job.created), "data": data, **_told(asked, pictures[0].size)})


def _data(desk: Desk, asked: Asked, picture: Picture, http: Http) -> dict[str, Any]:
    if asked.response_format == "url":
        form = f"?format={asked.output_format}" if asked.output_format else ""
        return {"url": f"{str(http.base_url).rstrip('/')}/api/pictures/{picture.name}/file{form}"}
    return {"b64_json": _b64(desk, asked, picture)}


def _b64(desk: Desk, asked: Asked, picture: Picture) -> str:
    data = desk.jobs.file(picture).read_bytes()
    return base64_of(recoded(data, asked.output_format or "png", asked.compression))


def _told(asked: Asked, size: tuple[int, int]) -> dict[str, Any]:
    return {
        "size": "{}x{}".format(*size),
        "output_format": asked.output_format or "png",
        "background": "opaque",
        "quality": "high",
    }


async def _stream(desk: Desk, asked: Asked, live: Live, http: Http, kind: str) -> AsyncIterator[str]:
    """Partial pictures of the first one, then every finished one in an event of its own."""
    partials = 0
    async with aclosing(attended(desk, live, http)) as events:
        async for event in events:
            if event.kind == "preview" and event.image is not None and partials < (asked.partial_images or 0):
                image = base64_of(encode(event.image, asked.output_format or "png", asked.compression))
                sent = {"b64_json": image, "partial_image_index": partials, "created_at": int(time.time())}
                yield _sent(f"{kind}.partial_image", {**sent, **_told(asked, event.image.size)})
                partials += 1
            elif event.kept is not None:
                image = await run_in_threadpool(_b64, desk, asked, event.kept)
                sent = {"b64_json": image, "created_at": int(time.time()), "usage": NO_USAGE}
                yield _sent(f"{kind}.completed", {**sent, **_told(asked, event.kept.size)})
            elif event.error is not None or event.kind == "closing":
                yield _sent("error", {"error": _failure(event)})


def _failure(event: Event) -> dict[str, Any]:
    message = "the server is stopping." if event.error is None else told(event.error)
    return {"message": message, "type": "server_error", "param": None, "code": None}


def _sent(kind: str, data: dict[str, Any]) -> str:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **data})}\n\n"


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "undiffuse"}


def _plain(text: str) -> Any:
    """A form's text as the number, truth value or table that it may be; forms carry texts alone."""
    if text[:1] not in '{["' and text not in ("true", "false"):
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text
