"""The dialect of AUTOMATIC1111's web UI, /sdapi/v1: drawing, progress, settings. Lists are in `sdapi_lists.py`."""

from __future__ import annotations

import json
import time
from typing import Any

from fastapi import APIRouter, Body, HTTPException
from fastapi import Request as Http
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel

from undiffuse.core.errors import CheckpointError
from undiffuse.serving.attending import attend
from undiffuse.serving.desk import Desk
from undiffuse.serving.dialects import sdapi_extras, sdapi_lists
from undiffuse.serving.dialects.sdapi_info import info_of
from undiffuse.serving.dialects.sdapi_requests import Asked, AskedWithPicture
from undiffuse.serving.encoding import base64_of, encode
from undiffuse.serving.live import Live

DIALECT = "sdapi"
SETTINGS: dict[str, Any] = {
    "sd_vae": "Automatic",
    "CLIP_stop_at_last_layers": 1,
    "samples_format": "png",
    "show_progress_every_n_steps": 1,
    "eta_noise_seed_delta": 0,
}
"""What clients look for among the settings. A job may override some of them; here none can have another value."""


class Drawn(BaseModel):
    """What txt2img and img2img answer: PNG files in base64, the body again, and `info`, which is JSON in a text."""

    images: list[str]
    parameters: dict[str, Any]
    info: str


class Progress(BaseModel):
    """How far the oldest unfinished job is; 0 and no jobs when there is none."""

    progress: float
    eta_relative: float
    state: dict[str, Any]
    current_image: str | None
    textinfo: str | None


class Chosen:
    """The model that jobs of this dialect take when they name none, as POST options sets it."""

    def __init__(self, model: str) -> None:
        self.model = model


def router(desk: Desk) -> APIRouter:
    """The routes of /sdapi/v1."""
    api = APIRouter(prefix="/sdapi/v1", tags=["AUTOMATIC1111"])
    chosen = Chosen(desk.models.first)
    api.include_router(sdapi_lists.router(desk))
    api.include_router(sdapi_extras.router(desk.limits))

    @api.post("/txt2img")
    async def txt2img(asked: Asked, http: Http) -> Drawn:
        """Draw pictures from words."""
        return await _draw(desk, chosen, asked, http)

    @api.post("/img2img")
    async def img2img(asked: AskedWithPicture, http: Http) -> Drawn:
        """Draw from a picture, or what a mask hides of it."""
        return await _draw(desk, chosen, asked, http)

    @api.get("/progress")
    def progress(skip_current_image: bool = False) -> Progress:
        """How far the oldest unfinished job is, of any dialect."""
        return _progress(desk, skip_current_image)

    @api.post("/interrupt")
    def interrupt() -> dict[str, Any]:
        """End the oldest unfinished job of this dialect; its finished pictures are answered."""
        live = desk.oldest(DIALECT)
        if live is not None:
            desk.cancel(live.job.id)
        return {}

    @api.post("/skip")
    def skip() -> dict[str, Any]:
        """Leave the pictures that are under way in that job, and go on with its next ones."""
        live = desk.oldest(DIALECT)
        if live is not None:
            desk.engine.skip(live.job.id)
        return {}

    @api.get("/options")
    def options() -> dict[str, Any]:
        """The settings that clients look for."""
        return {"sd_model_checkpoint": sdapi_lists.title(desk.models, chosen.model), **SETTINGS}

    @api.post("/options")
    def set_options(told: dict[str, Any] = Body(default_factory=dict)) -> dict[str, Any]:  # noqa: B008
        """Choose the model for later jobs of this dialect; other settings cannot be changed, and may be sent all the same."""
        model = told.get("sd_model_checkpoint")
        if isinstance(model, str) and model:
            try:
                chosen.model = desk.models.find(model).name
            except CheckpointError as error:
                raise HTTPException(404, str(error)) from None
        return {}

    return api


async def _draw(desk: Desk, chosen: Chosen, asked: Asked, http: Http) -> Drawn:
    def submitted() -> Live:
        request = asked.request(desk.limits)
        if asked.refiner is not None:
            desk.models.check_refiner(asked.refiner)
        return desk.submit(request, asked.model or chosen.model, DIALECT)

    live = await run_in_threadpool(submitted)
    last = await attend(desk, live, http)
    if last.error is not None and last.state != "cancelled":
        raise last.error

    def answered() -> Drawn:
        pictures = desk.jobs.pictures(live.job.id)
        files = [desk.jobs.file(picture).read_bytes() for picture in pictures]
        told = info_of(live, pictures, files, desk.models)
        images = [base64_of(data) for data in files] if asked.send_images else []
        echo = asked.model_dump(mode="json", exclude={"init_images", "mask"})
        return Drawn(images=images, parameters=echo, info=json.dumps(told))

    return await run_in_threadpool(answered)


def _progress(desk: Desk, without_image: bool) -> Progress:
    live = desk.oldest()
    state = {
        "skipped": False,
        "interrupted": False,
        "stopping_generation": False,
        "job": "",
        "job_count": len(desk.live),
        "job_timestamp": time.strftime("%Y%m%d%H%M%S"),
        "job_no": 0,
        "sampling_step": 0,
        "sampling_steps": 0,
    }
    if live is None:
        return Progress(progress=0.0, eta_relative=0.0, state=state, current_image=None, textinfo=None)
    under_way = [told for told in list(live.progress.values()) if told[0] < told[1]] or [(0, live.request.steps)]
    state |= {
        "job": live.job.id,
        "job_timestamp": time.strftime("%Y%m%d%H%M%S", time.localtime(live.job.created)),
        "job_no": live.kept,
        "sampling_step": under_way[0][0],
        "sampling_steps": under_way[0][1],
    }
    image = None
    if not without_image:
        live.look = True  # for the next one who asks
        image = None if live.preview is None else base64_of(encode(live.preview))
    words = "Waiting..." if live.state == "queued" else None
    share, left = live.share, live.seconds_left
    return Progress(progress=share, eta_relative=left, state=state, current_image=image, textinfo=words)
