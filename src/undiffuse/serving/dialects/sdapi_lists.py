"""The lists of /sdapi/v1: what there is to choose from. What we lack is an empty list, so that clients offer nothing."""

from __future__ import annotations

import os
from typing import Any

import torch
from fastapi import APIRouter

from undiffuse.diffusion.solvers.table import ENTRIES
from undiffuse.generation.metadata import SCHEDULE_TYPES, UPSCALERS
from undiffuse.serving.desk import Desk
from undiffuse.serving.models import Models, Shelved

EMPTY = (
    "hypernetworks",
    "sd-vae",
    "face-restorers",
    "realesrgan-models",
    "prompt-styles",
    "script-info",
    "extensions",
)
REFRESHED = ("refresh-checkpoints", "refresh-loras", "refresh-vae", "refresh-embeddings")
INVERSE = "ddim_inverse"  # goes the other way


def router(desk: Desk) -> APIRouter:
    """The routes of the lists."""
    api = APIRouter()

    @api.get("/sd-models")
    def models() -> list[dict[str, Any]]:
        """The models there are; what is known only of a loaded one is null before."""
        return [_model(desk.models, model) for model in desk.models.names.values()]

    @api.get("/samplers")
    def samplers() -> list[dict[str, Any]]:
        """Every solver, by A1111's label."""
        known = (entry for entry in ENTRIES if entry.name != INVERSE)
        return [{"name": entry.label, "aliases": [entry.name, *entry.aliases], "options": {}} for entry in known]

    @api.get("/schedulers")
    def schedulers() -> list[dict[str, Any]]:
        """Every spacing, by A1111's label; "automatic" is the sampler's own."""
        rest = {"aliases": None, "default_rho": -1.0, "need_inner_model": False}
        own = [{"name": "automatic", "label": "Automatic", **rest}]
        return own + [{"name": name, "label": label, **rest} for label, name in _by_label().items()]

    @api.get("/latent-upscale-modes")
    def latent_upscale_modes() -> list[dict[str, str]]:
        """What enlarges latents before a second pass."""
        return [{"name": UPSCALERS["latent"]}]

    @api.get("/embeddings")
    def embeddings() -> dict[str, Any]:
        """Learned words of the loaded models."""
        loaded = (draw for name in desk.models.names if (draw := desk.models.loaded(name)) is not None)
        words = {word: {"step": None} for draw in loaded for word in draw.model.adapters.words}
        return {"loaded": words, "skipped": {}}

    @api.get("/loras")
    def loras() -> list[dict[str, Any]]:
        """The LoRAs that prompts may name."""
        files = {} if desk.loras is None else desk.loras.files()
        return [{"name": name, "alias": name, "path": path.name, "metadata": {}} for name, path in files.items()]

    @api.get("/scripts")
    def scripts() -> dict[str, list[str]]:
        """None."""
        return {"txt2img": [], "img2img": []}

    @api.get("/cmd-flags")
    def flags() -> dict[str, Any]:
        """None of A1111's."""
        return {}

    @api.get("/memory")
    def memory() -> dict[str, Any]:
        """Memory of the machine and of the first GPU, in bytes."""
        page, total, free = (os.sysconf(f"SC_{name}") for name in ("PAGE_SIZE", "PHYS_PAGES", "AVPHYS_PAGES"))
        found: dict[str, Any] = {"ram": _memory(free * page, total * page), "cuda": {}}
        if torch.cuda.is_available():
            found["cuda"] = {"system": _memory(*torch.cuda.mem_get_info())}
        return found

    @api.post("/unload-checkpoint")
    def unload() -> dict[str, Any]:
        """Let go of every model that no job needs."""
        desk.models.let_go()
        return {}

    @api.post("/reload-checkpoint")
    def reload() -> dict[str, Any]:
        """Nothing: a model is loaded when a job needs it."""
        return {}

    for name in EMPTY:
        api.add_api_route(f"/{name}", _nothing, methods=["GET"], name=name)
    for name in REFRESHED:
        api.add_api_route(f"/{name}", _refresh(desk), methods=["POST"], name=name)
    return api


def title(models: Models, name: str) -> str:
    """A model as A1111 writes it, with its hash behind once it is known."""
    draw = models.loaded(name)
    return name if draw is None else f"{name} [{draw.origin.model_hash}]"


def _model(models: Models, model: Shelved) -> dict[str, Any]:
    draw = models.loaded(model.name)
    told = {"title": title(models, model.name), "model_name": model.name, "filename": model.name}
    return {**told, "hash": None if draw is None else draw.origin.model_hash, "sha256": None, "config": None}


def _by_label() -> dict[str, str]:
    return {label: name for name, label in reversed(SCHEDULE_TYPES.items())}


def _memory(free: int, total: int) -> dict[str, int]:
    return {"free": free, "used": total - free, "total": total}


def _nothing() -> list[Any]:
    """There are none."""
    return []


def _refresh(desk: Desk) -> Any:
    def refresh() -> dict[str, Any]:
        """Look again at what there is."""
        desk.models.refresh()
        return {}

    return refresh
