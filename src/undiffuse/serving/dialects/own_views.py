"""What /api answers."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from undiffuse.serving.jobs import Job, Picture, State
from undiffuse.serving.live import Live
from undiffuse.serving.models import Models, Shelved
from undiffuse.serving.wire import plain


class Problem(BaseModel):
    """Why something was refused: what was given, what is allowed, the remedy."""

    detail: str


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What the documentation says of refusals."""
    words = {
        400: "The request cannot be read.",
        401: "A key is needed.",
        403: "Not from that page, or not by that name.",
        404: "There is none of this name.",
        409: "It is over already.",
        413: "Too many bytes.",
        422: "A value is wrong, or beyond a limit.",
        429: "Too much to do; Retry-After says when to come back.",
        504: "It took too long.",
    }
    return {status: {"model": Problem, "description": words[status]} for status in (400, 401, 403, 413, 422, *statuses)}


class PictureView(BaseModel):
    """A finished picture; `file` is where it is to be had, `place` which one of its job it is. Seeds are texts: JavaScript
    would round large ones."""

    name: str
    job: str
    place: int
    seed: str
    width: int
    height: int
    created: float
    file: str


class PictureDetails(PictureView):
    """A finished picture with what it was drawn from."""

    model: str
    request: dict[str, Any]


class Library(BaseModel):
    """A page of finished pictures."""

    pictures: list[PictureView]


class JobView(BaseModel):
    """A job. `progress` is the share of steps that are taken; times are seconds since 1970."""

    id: str
    state: State
    progress: float
    seconds_left: float
    model: str
    dialect: str
    created: float
    started: float | None
    ended: float | None
    error: str | None
    request: dict[str, Any]
    pictures: list[PictureView]


class ModelView(BaseModel):
    """A model: its name, whether jobs that name none get it, and what is known of it once it is loaded."""

    name: str
    first: bool
    loaded: bool
    bytes: int
    fingerprint: str | None = None
    size: int | None = None
    reads: list[str] | None = None


def picture_view(picture: Picture) -> PictureView:
    """A finished picture for clients."""
    told = {name: getattr(picture, name) for name in ("name", "job", "place", "width", "height", "created")}
    return PictureView(**told, seed=str(picture.seed), file=f"/api/pictures/{picture.name}/file")


def job_view(job: Job, live: Live | None, pictures: list[Picture]) -> JobView:
    """A job for clients."""
    times = {"created": job.created, "started": job.started, "ended": job.ended}
    return JobView(
        id=job.id,
        state=job.state,
        progress=live.share if live is not None else float(job.state == "done"),
        seconds_left=live.seconds_left if live is not None else 0.0,
        model=job.model,
        dialect=job.dialect,
        error=job.error,
        request=plain(job.request),
        pictures=[picture_view(picture) for picture in pictures],
        **times,
    )


def model_view(models: Models, model: Shelved) -> ModelView:
    """A model for clients."""
    draw = models.loaded(model.name)
    known: dict[str, Any] = {}
    if draw is not None:
        reads = list(draw.model.conditioner.fields)
        known = {"fingerprint": draw.origin.model_hash, "size": draw.model.spec.size, "reads": reads}
    return ModelView(name=model.name, first=model.name == models.first, loaded=draw is not None, bytes=model.bytes, **known)
