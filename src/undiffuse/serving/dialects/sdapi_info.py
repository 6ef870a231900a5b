"""`info`, which tells all about an answer of /sdapi/v1, with every key that clients read."""

from __future__ import annotations

import io
import time
from typing import Any

from PIL import Image

from undiffuse.core.version import VERSION
from undiffuse.diffusion.solvers.table import find_solver
from undiffuse.generation.metadata import SCHEDULE_TYPES
from undiffuse.generation.output import A1111_CHUNK
from undiffuse.generation.request import Request
from undiffuse.serving.jobs import Picture
from undiffuse.serving.live import Live
from undiffuse.serving.models import Models

NO_SEED = -1


def info_of(live: Live, pictures: list[Picture], files: list[bytes], models: Models) -> dict[str, Any]:
    """Everything about the finished pictures of a job; every picture has its own seed and text."""
    request = live.request
    entry, _ = find_solver(request.solver)
    draw = models.loaded(live.job.model)
    subseed, subseed_strength = request.variation or (NO_SEED, 0.0)
    size = (pictures[0].width, pictures[0].height) if pictures else (request.width, request.height)
    return {
        "prompt": request.prompt,
        "all_prompts": [request.prompt] * len(pictures),
        "negative_prompt": request.negative,
        "all_negative_prompts": [request.negative] * len(pictures),
        "seed": request.seed,
        "all_seeds": [picture.seed for picture in pictures],
        "subseed": subseed,
        "all_subseeds": [subseed if subseed == NO_SEED else subseed + picture.place for picture in pictures],
        "subseed_strength": subseed_strength,
        "width": size[0],
        "height": size[1],
        "sampler_name": entry.label,
        "cfg_scale": request.guidance,
        "steps": request.steps,
        "batch_size": request.count,
        "restore_faces": False,
        "face_restoration_model": None,
        "sd_model_name": live.job.model,
        "sd_model_hash": draw.origin.model_hash if draw is not None else "",
        "sd_vae_name": None,
        "sd_vae_hash": None,
        "seed_resize_from_w": 0,
        "seed_resize_from_h": 0,
        "denoising_strength": _strength(request),
        "extra_generation_params": {"Schedule type": SCHEDULE_TYPES[request.spacing or entry.spacing]},
        "index_of_first_image": 0,
        "infotexts": [text_of(data) for data in files],
        "styles": [],
        "job_timestamp": time.strftime("%Y%m%d%H%M%S", time.localtime(live.job.created)),
        "clip_skip": request.clip_skip,
        "is_using_inpainting_conditioning": request.fill == "learned",
        "version": f"undiffuse {VERSION}",
    }


def _strength(request: Request) -> float | None:
    """How far a picture was left, that of a second pass where there was one."""
    if request.hires is not None:
        return request.hires.strength
    return request.strength if request.image is not None else None


def text_of(data: bytes) -> str:
    """The `parameters` text in a PNG file."""
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        return str(image.info.get(A1111_CHUNK, ""))
