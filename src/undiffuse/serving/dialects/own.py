"""Our own dialect, /api: jobs that are handed in and looked after, and the library of pictures."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Path, Query, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field, create_model

from undiffuse.serving.desk import Desk
from undiffuse.serving.dialects.own_views import (
    JobView,
    Library,
    ModelView,
    PictureDetails,
    job_view,
    model_view,
    picture_view,
    problems,
)
from undiffuse.serving.encoding import Format, base64_of, encode, recoded
from undiffuse.serving.jobs import Job, Picture, State
from undiffuse.serving.live import LAST, Event
from undiffuse.serving.wire import Drawn, plain, to_request

JobId = Annotated[str, Path(pattern=r"^[0-9a-f]{16}$", description="The id that handing it in gave.")]
PictureName = Annotated[str, Path(pattern=r"^[0-9a-f]{16}-[0-9]{1,5}$", description="The name of a finished picture.")]
Limit = Annotated[int, Query(ge=1, le=1000)]
Offset = Annotated[int, Query(ge=0, le=2**31)]
MEDIA = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}

NewJob: type[BaseModel] = create_model(
    "NewJob",
    __base__=Drawn,
    __doc__="What to draw, and with which model; the server's first one when none is named.",
    model=(str | None, Field(None, description="A name that /api/models lists.")),
)


def router(desk: Desk) -> APIRouter:
    """The routes of /api."""
    api = APIRouter(prefix="/api", tags=["undiffuse"])

    @api.post("/jobs", status_code=202, responses=problems(404, 429))
    async def hand_in(asked: NewJob) -> JobView:  # type: ignore[valid-type]
        """Hand in a job. It is kept when this answers, and is drawn whatever becomes of the client."""
        told = asked.model_dump(exclude_unset=True)  # type: ignore[attr-defined]
        model = told.pop("model", None)

        def submitted() -> JobView:
            return _view(desk, desk.submit(to_request(told, desk.limits), model).job)

        return await run_in_threadpool(submitted)

    @api.get("/jobs", responses=problems())
    def jobs(state: State | None = None, limit: Limit = 100, offset: Offset = 0) -> list[JobView]:
        """Jobs, the newest first."""
        return [_view(desk, job) for job in desk.jobs.jobs((state,) if state else (), limit, offset)]

    @api.get("/jobs/{job}", responses=problems(404))
    def look(job: JobId) -> JobView:
        """One job: its state, how far it is, its pictures."""
        return _view(desk, _job(desk, job))

    @api.post("/jobs/{job}/cancel", responses=problems(404, 409))
    def cancel(job: JobId) -> JobView:
        """End a job before its next step; the pictures that are finished stay."""
        found = _job(desk, job)
        if not desk.cancel(job):
            raise HTTPException(409, f"job {job} is {found.state} already.")
        return _view(desk, found)

    @api.get(
        "/jobs/{job}/events",
        response_class=StreamingResponse,
        responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}, **problems(404)},
    )
    async def events(job: JobId, previews: bool = False) -> StreamingResponse:
        """Server-sent events: `step`, with `previews=true` `preview` after every step, `picture`, and last of all `end`.

        Leaving ends nothing: the job is drawn all the same. Events of a job that is over are its pictures and its end.
        """
        found = await run_in_threadpool(_job, desk, job)
        return StreamingResponse(_stream(desk, found, previews), media_type="text/event-stream", headers=UNCACHED)

    @api.get("/pictures", responses=problems())
    def pictures(limit: Limit = 100, offset: Offset = 0) -> Library:
        """Finished pictures of all jobs, the newest first."""
        return Library(pictures=[picture_view(picture) for picture in desk.jobs.pictures(None, limit, offset)])

    @api.get("/pictures/{name}", responses=problems(404))
    def picture(name: PictureName) -> PictureDetails:
        """One finished picture, and the request that gives it again."""
        found = _picture(desk, name)
        job = _job(desk, found.job)
        request = job.request.each()[found.place]
        return PictureDetails(**picture_view(found).model_dump(), model=job.model, request=plain(request))

    @api.get(
        "/pictures/{name}/file",
        response_class=Response,
        responses={200: {"content": {kind: {"schema": {"type": "string"}} for kind in MEDIA.values()}}, **problems(404)},
    )
    def file(name: PictureName, format: Format = "png") -> Response:
        """The file of a finished picture; it tells how it was drawn."""
        found = _picture(desk, name)
        try:
            data = desk.jobs.file(found).read_bytes()
        except FileNotFoundError:
            raise HTTPException(404, f"the file of {name} is gone.") from None
        return Response(recoded(data, format), media_type=MEDIA[format], headers={"X-Content-Type-Options": "nosniff"})

    @api.delete("/pictures/{name}", status_code=204, responses=problems(404))
    def delete(name: PictureName) -> None:
        """Delete a finished picture."""
        desk.jobs.forget(_picture(desk, name))

    @api.get("/models", responses=problems())
    def models() -> list[ModelView]:
        """What may be drawn with."""
        return [model_view(desk.models, model) for model in desk.models.names.values()]

    return api


QUIET = 15.0  # seconds
UNCACHED = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


def _view(desk: Desk, job: Job) -> JobView:
    fresh = desk.jobs.job(job.id) or job
    return job_view(fresh, desk.live.get(job.id), desk.jobs.pictures(job.id))


def _job(desk: Desk, name: str) -> Job:
    found = desk.jobs.job(name)
    if found is None:
        raise HTTPException(404, f"no job {name}.")
    return found


def _picture(desk: Desk, name: str) -> Picture:
    found = desk.jobs.picture(name)
    if found is None:
        raise HTTPException(404, f"no picture {name}.")
    return found


async def _stream(desk: Desk, job: Job, previews: bool) -> AsyncIterator[str]:
    live = desk.live.get(job.id)
    if live is None:
        for kept in desk.jobs.pictures(job.id):
            yield _sent("picture", picture_view(kept).model_dump())
        fresh = desk.jobs.job(job.id) or job
        yield _sent("end", {"state": fresh.state, "error": fresh.error})
        return
    live.look = previews
    follower = live.follow()
    try:
        while (event := await follower.next(QUIET)) is None or event.kind not in LAST:
            if event is None:
                yield ": still here\n\n"  # so that nobody between takes the silence for the end
                continue
            yield _told(event)
            if event.kind == "preview":
                live.look = previews
        yield _told(event)
    finally:
        follower.close()


def _told(event: Event) -> str:
    if event.kind == "preview" and event.image is not None:
        picture = f"data:image/jpeg;base64,{base64_of(encode(event.image, 'jpeg', 80))}"
        return _sent("preview", {"picture": event.picture, "done": event.done, "steps": event.steps, "image": picture})
    if event.kept is not None:
        return _sent("picture", picture_view(event.kept).model_dump())
    if event.kind in LAST:
        state = event.state or "queued"
        return _sent("end", {"state": state, "error": None if event.error is None else str(event.error)})
    return _sent(event.kind, {"picture": event.picture, "done": event.done, "steps": event.steps})


def _sent(kind: str, data: dict[str, Any]) -> str:
    return f"event: {kind}\ndata: {json.dumps(data)}\n\n"
