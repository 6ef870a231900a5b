"""What /sdapi/v1/txt2img and img2img are asked, and the request of ours that it means.

Parameters whose effect cannot be had here are refused when they are set to anything; nothing is passed over in silence.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import HTTPException
from PIL import Image, ImageChops, ImageFilter, ImageOps
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from undiffuse.core.errors import SpecError, explain
from undiffuse.diffusion.solvers.table import SolverEntry, find_solver
from undiffuse.generation.fields import Mask
from undiffuse.generation.metadata import ALSO_READ, SCHEDULE_TYPES, UPSCALERS
from undiffuse.generation.request import Request
from undiffuse.serving.limits import Limits

MASK: TypeAdapter[Image.Image] = TypeAdapter(Mask, config=ConfigDict(arbitrary_types_allowed=True))
AUTOMATIC = "automatic"  # the solver's own spacing
STRETCH, CROP = 0, 1  # resize modes
UNHAD = {
    "restore_faces": "faces are not restored",
    "tiling": "pictures that tile are not drawn",
    "seed_resize_from_w": "noise is not resized",
    "seed_resize_from_h": "noise is not resized",
    "styles": "there are no styles",
    "script_name": "there are no scripts",
    "s_min_uncond": "guidance is never skipped by a threshold of noise",
    "infotext": "parameters are read from the body alone",
    "firstpass_image": "a first pass is drawn",
}
"""What is refused when it says anything, and why. A1111's defaults, and what its clients always send, say nothing."""
SOURCES = {"CPU": "webui-cpu", "GPU": "webui-gpu", "NV": "webui-gpu"}
"""Whose numbers they are that A1111 draws in a place of this name. Where a client names none they are ours."""
UNHAD_IN_HIRES = {
    "hr_resize_x": "the second pass is told by hr_scale",
    "hr_resize_y": "the second pass is told by hr_scale",
    "hr_checkpoint_name": "both passes are drawn by one model",
    "hr_sampler_name": "both passes have one sampler",
    "hr_scheduler": "both passes have one scheduler",
    "hr_prompt": "both passes have one prompt",
    "hr_negative_prompt": "both passes have one negative prompt",
}
"""The same of a second pass, where one is asked for."""
NOTHING = (None, False, 0, -1, "", [], "None", "Use same checkpoint", "Use same sampler", "Use same scheduler")


class Asked(BaseModel):
    """The body of txt2img. Fields that only tell A1111 where to save or what to restore afterwards change nothing."""

    model_config = ConfigDict(extra="allow")

    prompt: str = ""
    negative_prompt: str = ""
    seed: Annotated[int, Field(ge=-1, lt=2**64)] | None = -1
    sampler_name: str | None = None
    sampler_index: str | None = "Euler"
    scheduler: str | None = None
    batch_size: Annotated[int, Field(ge=1)] = 1
    n_iter: Annotated[int, Field(ge=1)] = 1
    subseed: Annotated[int, Field(ge=-1, lt=2**64)] | None = -1
    subseed_strength: Annotated[float, Field(ge=0, le=1)] | None = 0.0
    steps: Annotated[int, Field(ge=1)] = 50
    cfg_scale: float = 7.0
    width: int | None = None
    height: int | None = None
    eta: float | None = None
    s_churn: float | None = None
    s_tmax: float | None = None
    s_tmin: float | None = None
    s_noise: float | None = None
    denoising_strength: float | None = None
    enable_hr: bool | None = False
    hr_scale: float = 2.0
    hr_second_pass_steps: Annotated[int, Field(ge=0)] | None = 0
    hr_upscaler: str | None = None
    refiner_checkpoint: str | None = None
    refiner_switch_at: Annotated[float, Field(ge=0, le=1)] | None = None
    override_settings: dict[str, Any] | None = None
    alwayson_scripts: dict[str, Any] | None = None
    send_images: bool = True
    force_task_id: str | None = None

    @property
    def model(self) -> str | None:
        """The model that this job asks for."""
        return (self.override_settings or {}).get("sd_model_checkpoint") or None

    @property
    def refiner(self) -> str | None:
        """The refiner that this job asks for."""
        return None if self.refiner_checkpoint in NOTHING or self.refiner_switch_at == 1 else self.refiner_checkpoint

    def request(self, limits: Limits) -> Request:
        """The request of ours.

        Raises:
            SpecError, DataError: when something cannot be had, or a picture not be read.
            HTTPException: 404 for an unknown sampler or scheduler, as A1111 answers.
        """
        self._refuse()
        entry, spacing = self._solver()
        options = {name: value for name, value in self._options(entry).items() if value != entry.options[name]}
        fields: dict[str, Any] = {
            "prompt": self.prompt,
            "negative": self.negative_prompt,
            "seed": self.seed,
            "solver": entry.name,
            "spacing": spacing,
            "eta": min(1.0, self.eta) if entry.takes_eta and self.eta else 0.0,
            "solver_options": options,
            "count": self.batch_size * self.n_iter,
            "steps": self.steps,
            "guidance": self.cfg_scale,
            "width": self.width or None,
            "height": self.height or None,
        }
        if self.refiner is not None:
            if not self.refiner_switch_at:
                given = f"refiner_switch_at = {self.refiner_switch_at} with a refiner"
                raise SpecError(explain(given, "above 0, below 1 is allowed", "0.8 is usual"))
            fields["refine_at"] = self.refiner_switch_at
        return Request(**{**fields, **self._numbers(), **self.start(limits)})

    def _numbers(self) -> dict[str, Any]:
        """Whose numbers the seed stands for, which others go with them, and how far back CLIP is read: settings in A1111."""
        settings = self.override_settings or {}
        found: dict[str, Any] = {}
        if settings.get("CLIP_stop_at_last_layers"):
            found["clip_skip"] = settings["CLIP_stop_at_last_layers"]
        source = settings.get("randn_source")
        if source is not None:
            if source not in SOURCES:
                raise SpecError(explain(f"randn_source = {source!r}", f"there are {', '.join(SOURCES)}", "leave it out"))
            found["seeds"] = SOURCES[source]
        if settings.get("eta_noise_seed_delta"):
            found["ensd"] = settings["eta_noise_seed_delta"]
        if self.subseed_strength:
            other = -1 if self.subseed is None else self.subseed
            found["variation"] = (secrets.randbelow(2**32) if other == -1 else other, self.subseed_strength)
        return found

    def start(self, limits: Limits) -> dict[str, Any]:
        """The fields of the request that say what a picture starts from, and what starts from it: a second pass.

        Raises:
            SpecError: when something about the second pass cannot be had.
            HTTPException: 404 for an unknown upscaler, as A1111 answers.
        """
        if not self.enable_hr:
            return {}
        self._refuse_said(UNHAD_IN_HIRES)
        upscalers = {label: name for name, label in UPSCALERS.items()}
        label = self.hr_upscaler or UPSCALERS["latent"]
        if label not in upscalers:
            raise HTTPException(404, f"Upscaler not found: {label!r}; a second pass has: {', '.join(upscalers)}.")
        strength = 0.75 if self.denoising_strength is None else self.denoising_strength
        steps = self.hr_second_pass_steps or None
        return {"hires": {"scale": self.hr_scale, "strength": strength, "steps": steps, "upscaler": upscalers[label]}}

    def _refuse(self) -> None:
        self._refuse_said(UNHAD)
        for name, told in (self.alwayson_scripts or {}).items():
            args = told.get("args") if isinstance(told, dict) else told
            if args and args[0] is not False and not (isinstance(args[0], dict) and args[0].get("enabled") is False):
                raise SpecError(explain(f"alwayson_scripts has {name!r}", "there are no scripts", "leave it out"))
        vae = (self.override_settings or {}).get("sd_vae")
        if vae not in (None, "", "None", "Automatic"):
            raise SpecError(explain(f"sd_vae = {vae!r}", "models are served with their own autoencoders", "leave it out"))

    def _refuse_said(self, unhad: Mapping[str, str]) -> None:
        said = self.model_extra or {}
        for name, why in unhad.items():
            if said.get(name) not in NOTHING:
                raise SpecError(explain(f"{name} = {said[name]!r}", why, "leave it out"))

    def _solver(self) -> tuple[SolverEntry, str | None]:
        try:
            entry, spacing = find_solver(self.sampler_name or self.sampler_index or "Euler")
        except SpecError as error:
            raise HTTPException(404, f"Sampler not found: {error}") from None
        asked = (self.scheduler or AUTOMATIC).strip()
        if asked.lower() == AUTOMATIC:
            return entry, spacing
        found = spacings().get(asked.lower())
        if found is None:
            raise HTTPException(
                404, f"Scheduler not found: unknown {asked!r}; there are: {', '.join(SCHEDULE_TYPES.values())}."
            )
        return entry, found

    def _options(self, entry: SolverEntry) -> dict[str, float]:
        told = {"s_churn": self.s_churn, "s_tmin": self.s_tmin, "s_noise": self.s_noise, "s_tmax": self.s_tmax or None}
        if not entry.takes_eta:
            told["eta"] = self.eta
        return {name: value for name, value in told.items() if value is not None and name in entry.options}


class AskedWithPicture(Asked):
    """The body of img2img."""

    init_images: list[str] = Field(default_factory=list)
    mask: str | None = None
    mask_blur: Annotated[int, Field(ge=0, le=256)] | None = None
    mask_blur_x: Annotated[int, Field(ge=0, le=256)] = 4
    mask_blur_y: Annotated[int, Field(ge=0, le=256)] = 4
    inpainting_mask_invert: int | None = 0
    inpaint_full_res: bool | None = True
    resize_mode: int | None = STRETCH

    def start(self, limits: Limits) -> dict[str, Any]:
        """The picture to start from, its mask, and how far to leave it.

        Raises:
            HTTPException: 404 without a picture, as A1111 answers.
            DataError, SpecError: when a picture cannot be read, or is to be fitted in a way that we lack.
        """
        if self.enable_hr:
            raise SpecError(explain("enable_hr in img2img", "a second pass follows words", "leave it out"))
        if not self.init_images:
            raise HTTPException(404, "Init image not found")
        if len(self.init_images) > 1:
            raise SpecError(explain(f"{len(self.init_images)} init_images", "one is taken", "send a request each"))
        image = limits.read_base64(self.init_images[0])
        strength = 0.75 if self.denoising_strength is None else self.denoising_strength
        mask = None if not self.mask else self._mask(limits.read_base64(self.mask), image.size)
        if mask is not None and self.inpaint_full_res:  # only the surroundings of the mask are drawn
            return {"image": image, "mask": mask, "strength": strength}
        image = self._fitted(image.convert("RGB") if mask is not None else image)
        return {"image": image, "mask": None if mask is None else self._fitted(mask), "strength": strength}

    def _mask(self, picture: Image.Image, size: tuple[int, int]) -> Image.Image:
        """White where it is drawn anew, softened as asked."""
        mask = MASK.validate_python(picture).resize(size, Image.Resampling.NEAREST)
        if self.inpainting_mask_invert:
            mask = ImageChops.invert(mask)
        blur = (self.mask_blur, self.mask_blur) if self.mask_blur is not None else (self.mask_blur_x, self.mask_blur_y)
        return mask.filter(ImageFilter.GaussianBlur(blur))

    def _fitted(self, picture: Image.Image) -> Image.Image:
        size = (self.width or picture.width, self.height or picture.height)
        if self.resize_mode in (STRETCH, None) or size == picture.size:
            return picture.resize(size, Image.Resampling.LANCZOS)
        if self.resize_mode == CROP:
            return ImageOps.fit(picture, size, Image.Resampling.LANCZOS)
        allowed = "0 (stretch) and 1 (crop) are had here"
        raise SpecError(explain(f"resize_mode = {self.resize_mode}", allowed, "send a picture in the size that is drawn"))


def spacings() -> dict[str, str]:
    """Our spacings by every name that a scheduler goes by, in small letters."""
    labels = {label.lower(): name for name, label in reversed(SCHEDULE_TYPES.items())}
    plain = {label.lower().replace(" ", "_"): name for label, name in labels.items()}
    return {**plain, **{label.lower(): name for label, name in ALSO_READ.items()}, **labels, **{n: n for n in SCHEDULE_TYPES}}
