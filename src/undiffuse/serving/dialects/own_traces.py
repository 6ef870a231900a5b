"""/api/traces: pictures of the library drawn once more, step by step, and two of them side by side."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException
from fastapi import Path as InPath
from fastapi import Request as Http
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse
from pydantic import BaseModel

from undiffuse.core.errors import Busy, explain
from undiffuse.explain.compare import compare
from undiffuse.explain.trace import Trace
from undiffuse.serving.attending import LOOK
from undiffuse.serving.desk import Desk
from undiffuse.serving.dialects.own_views import problems
from undiffuse.serving.traces import Kept, Recording

TraceName = Annotated[str, InPath(pattern=r"^[0-9a-f]{16}-[0-9]{1,5}$", description="The name of the picture.")]
MEDIA = "application/octet-stream"


class TraceEntry(BaseModel):
    """A trace that is there; `file` is where it is to be had, for `undiffuse trace diff` and the library."""

    name: str
    bytes: int
    created: float
    file: str


class TraceView(TraceEntry):
    """A trace in words and numbers: what its picture tells, the words and layers whose attention is kept, every step."""

    told: dict[str, Any]
    words: list[str]
    layers: list[str]
    steps: list[dict[str, float | int | None]]


class TraceDiff(BaseModel):
    """Two traces side by side. `parting` says at which step from 0, in what, by how much and where they first differ; `rows`
    how far noisy latent and estimate are apart at every step; `furthest` the same of pixels, of 255; `psnr` is in dB."""

    same: bool
    parting: dict[str, Any] | None
    cause: str | None
    causes: list[str]
    visible: int | None
    furthest: int | None
    psnr: float | None
    rows: list[tuple[float, float]]


def router(desk: Desk) -> APIRouter:
    """The routes of /api/traces."""
    api = APIRouter(prefix="/api", tags=["undiffuse"])

    @api.post("/pictures/{name}/trace", status_code=201, responses=problems(404, 409, 429, 504))
    async def record(name: TraceName, http: Http) -> TraceView:
        """Draw a picture of the library again with everything recorded, and keep the trace under the picture's name.

        It answers when that is done; jobs go on between its steps. A client that leaves ends it.
        """

        def asked() -> Recording:
            picture = desk.jobs.picture(name)
            job = None if picture is None else desk.jobs.job(picture.job)
            if picture is None or job is None:
                raise HTTPException(404, f"no picture {name}.")
            return desk.record(picture, job)

        recording = await run_in_threadpool(asked)
        await _attend(recording, desk, http)
        return await run_in_threadpool(_view, desk, name)

    @api.get("/traces", responses=problems())
    def traces() -> list[TraceEntry]:
        """The traces that are there, the newest first."""
        return [_entry(kept) for kept in desk.traces.all()]

    @api.get("/traces/{name}", responses=problems(404))
    def look(name: TraceName) -> TraceView:
        """One trace in words and numbers."""
        return _view(desk, name)

    @api.get(
        "/traces/{name}/file",
        response_class=FileResponse,
        responses={200: {"content": {MEDIA: {"schema": {"type": "string"}}}}, **problems(404)},
    )
    def file(name: TraceName) -> FileResponse:
        """The file of a trace: safetensors, as `undiffuse trace` writes it."""
        _read(desk, name)
        return FileResponse(desk.traces.path(name), media_type=MEDIA, filename=f"{name}.trace")

    @api.get("/traces/{name}/diff/{other}", responses=problems(404))
    def diff(name: TraceName, other: TraceName) -> TraceDiff:
        """At which step two recorded drawings part, where, by how much, and from what cause."""
        found = compare(_read(desk, name), _read(desk, other))
        causes = {"cause": None if found.cause is None else str(found.cause), "causes": [str(cause) for cause in found.causes]}
        return TraceDiff(**{**found.told(), **causes})

    @api.delete("/traces/{name}", status_code=204, responses=problems(404))
    def delete(name: TraceName) -> None:
        """Delete a trace; its picture stays."""
        _read(desk, name)
        desk.traces.forget(name)

    return api


async def _attend(recording: Recording, desk: Desk, http: Http) -> None:
    """Wait for a recording; when the client goes, so does it.

    Raises:
        UndiffuseError: why nothing was recorded.
    """
    done = asyncio.wrap_future(recording.done)
    try:
        while not (await asyncio.wait([done], timeout=LOOK))[0]:
            if desk.closing:
                raise Busy(explain("the server is stopping", "nothing more is recorded", "ask when it is back"))
            if await http.is_disconnected():
                recording.leave()
        await done
    finally:
        recording.leave()


def _view(desk: Desk, name: str) -> TraceView:
    trace, kept = _read(desk, name), desk.traces.kept(name)
    if kept is None:
        raise _absent(name)
    words = [word.text for word in trace.words]
    known = _entry(kept).model_dump()
    return TraceView(**known, told=dict(trace.told), words=words, layers=list(trace.paths), steps=trace.numbers())


def _entry(kept: Kept) -> TraceEntry:
    return TraceEntry(**kept._asdict(), file=f"/api/traces/{kept.name}/file")


def _read(desk: Desk, name: str) -> Trace:
    found = desk.traces.read(name)
    if found is None:
        raise _absent(name)
    return found


def _absent(name: str) -> HTTPException:
    return HTTPException(404, f"no trace {name}.")
