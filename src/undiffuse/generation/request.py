"""`Request`: everything that decides a picture, apart from the model; it travels inside the PNG."""

from __future__ import annotations

import json
import secrets
from typing import Annotated, Any, Literal, Self

from PIL import Image
from pydantic import ConfigDict, Field, ValidationError, field_validator, model_validator

from undiffuse.core.errors import SpecError, explain
from undiffuse.core.spec import Spec, describe_errors
from undiffuse.diffusion.solvers.table import find_solver
from undiffuse.generation.fields import ClassMap, Context, DepthMap, Mask, Rgb
from undiffuse.generation.hires import Hires
from undiffuse.generation.seed_profiles import NATIVE, PROFILES, Seeds, check_seeds

RANDOM = -1
USUAL = ("steps", "guidance", "sketch")
"""Fields for which a model may have values of its own, taken where a request names no `steps`; see `UsualSpec`."""
PICTURES = ("image", "mask", "layout", "small", "like", "depth")

Spacing = Literal[
    "trailing",
    "leading",
    "linspace",
    "karras",
    "exponential",
    "sgm_uniform",
    "simple",
    "ddim_uniform",
    "kl_optimal",
    "beta",
    "align_your_steps",
    "align_your_steps_xl",
]
Side = Annotated[int, Field(ge=1, le=8192)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Seed = Annotated[int, Field(ge=0, lt=2**64)]
Box = tuple[Fraction, Fraction, Fraction, Fraction, str]


class Request(Spec):
    """What to draw and how. Frozen: `replace` makes a changed copy.

    | field               | meaning                                                                         |
    |---------------------|---------------------------------------------------------------------------------|
    | `prompt`            | what to show; may be the only positional argument                               |
    | `negative`          | what to steer away from                                                         |
    | `clip_skip`         | how far before its end CLIP is read, as A1111 counts; 1 is the end              |
    | `label`             | a class name, for models that learned classes                                   |
    | `steps`             | how many times the denoiser is asked, at least about                            |
    | `guidance`          | strength of classifier-free guidance; 1 turns it off                            |
    | `guidance_interval` | share of the noise range, 0 clean to 1 noise, in which guidance works           |
    | `guidance_rescale`  | 0 to 1, takes back the contrast that guidance adds (Lin et al. 2024, sec. 3.4)  |
    | `solver`            | any known spelling: "dpmpp_2m", "Euler a", "DPM++ 2M Karras", "DDIMScheduler"   |
    | `spacing`           | how levels are spaced; None takes the solver's own                              |
    | `eta`               | share of fresh noise in DDIM, 0 to 1                                            |
    | `solver_options`    | whatever else a solver takes, by its name: {"s_churn": 20}, {"order": 2}        |
    | `seed`              | seed of the first picture; -1 or None draws one here and now                    |
    | `count`             | how many pictures; picture k is the one that `seed + k` gives alone             |
    | `seeds`             | whose numbers a seed stands for: "native", or those of another program          |
    | `variation`         | another seed, and how far to turn towards its noise, 0 to 1                     |
    | `ensd`              | what A1111 adds to the seed for the noise of the steps, with seeds of "webui-*" |
    | `place`             | which picture of a batch of how many, with seeds of "comfyui*"                  |
    | `width`, `height`   | in pixels; None takes the model's own size                                      |
    | `image`, `strength` | a picture to start from, and how far to leave it, 0 to 1; beside a mask, 1      |
    | `sketch`            | begin with what the words make the model expect, under this share of noise; in  |
    |                     | a hole that a model learned to fill, with what agrees with what is around it,   |
    |                     | or with that, continued smoothly                                                |
    | `mask`              | where `image` is made anew: white, or opaque; all else stays as it is           |
    | `fill`              | how: "learned" by the model, or by any model: "known" or "repaint"              |
    | `hires`             | a second pass at a larger size: `Hires(scale=2, strength=0.7)`                  |
    | `refine_at`         | share of the noise schedule that is behind when a refiner takes over, 0 to 1    |
    | `layout`            | a semantic map: class indices, or the colours of the model's palette            |
    | `small`             | a small picture to enlarge                                                      |
    | `noise_level`       | how much noise hides it, for the x4 upscaler; None takes the usual 20           |
    | `boxes`             | what stands where: (left, top, right, bottom, label), sides 0 to 1              |
    | `like`              | a picture that the result shall resemble                                        |
    | `depth`             | a depth map, white where near; 8 or 16 bits, or an array of any numbers         |
    | `context`           | whatever else a model learned to read, by its name                              |
    | `scales`            | a strength of its own for a kind of context: {"map": 2.0}                       |

    Of `steps`, `guidance` and `sketch` a request without `steps` leaves what it does not name to the model, which may have
    a usual way to be drawn with; one with `steps` means what stands here.

    Raises:
        SpecError: naming every wrong field, what was given and what is allowed.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    prompt: str = ""
    negative: str = ""
    clip_skip: Annotated[int, Field(ge=1)] = 1
    label: str | None = None
    steps: Annotated[int, Field(ge=1, le=1000)] = 20
    guidance: Annotated[float, Field(ge=0, le=100)] = 4.0
    guidance_interval: tuple[Fraction, Fraction] = (0.0, 1.0)
    guidance_rescale: Fraction = 0.0
    solver: str = "dpmpp_2m"
    spacing: Spacing | None = None
    eta: Fraction = 0.0
    solver_options: dict[str, float] = Field(default_factory=dict)
    seed: Seed = RANDOM
    count: Annotated[int, Field(ge=1, le=10_000)] = 1
    seeds: Seeds = NATIVE
    variation: tuple[Seed, Fraction] | None = None
    ensd: Annotated[int, Field(gt=-(2**63), lt=2**63)] = 0
    place: tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=1, le=10_000)]] = (0, 1)
    width: Side | None = None
    height: Side | None = None
    image: Rgb | None = None
    strength: Annotated[float, Field(gt=0, le=1)] = 0.75
    sketch: Annotated[float, Field(ge=0.01, le=1)] | None = None
    mask: Mask | None = None
    fill: Literal["learned", "known", "repaint"] | None = None
    hires: Hires | None = None
    refine_at: Annotated[float, Field(gt=0, lt=1)] | None = None
    layout: ClassMap | None = None
    small: Rgb | None = None
    noise_level: Annotated[int, Field(ge=0)] | None = None
    boxes: tuple[Box, ...] = ()
    like: Rgb | None = None
    depth: DepthMap | None = None
    context: dict[str, Context] = Field(default_factory=dict)
    scales: dict[str, Annotated[float, Field(ge=0, le=100)]] = Field(default_factory=dict)

    def __init__(self, prompt: str = "", /, **fields: Any) -> None:
        try:
            super().__init__(**{"prompt": prompt, **fields})
        except ValidationError as error:
            raise SpecError(describe_errors(error, "request")) from None

    @field_validator("seed", mode="before")
    @classmethod
    def _real_seed(cls, seed: Any) -> Any:
        """A seed drawn now in place of -1 and None, so that no record ever holds an unknown one."""
        return secrets.randbelow(2**32) if seed in (None, RANDOM) else seed

    @field_validator("variation", mode="before")
    @classmethod
    def _real_variation(cls, told: Any) -> Any:
        """The same for the other seed."""
        return (cls._real_seed(told[0]), *told[1:]) if isinstance(told, (tuple, list)) and told else told

    @model_validator(mode="before")
    @classmethod
    def _settled(cls, raw: dict[str, Any]) -> dict[str, Any]:
        """The solver under its own name; a spacing that its old name carried ("DPM++ 2M Karras") apart."""
        if raw.get("mask") is not None and "strength" not in raw:
            raw = {**raw, "strength": 1.0}  # what is behind a mask is made wholly anew
        if not isinstance(raw.get("solver"), str):
            return raw
        entry, spacing = find_solver(raw["solver"])
        if raw["solver"].lower().endswith("_gpu") and str(raw.get("seeds")).startswith("comfyui"):
            given = f"solver {raw['solver']!r} with seeds {raw['seeds']!r}"
            raise SpecError(explain(given, "only noise of its form on the CPU is known", f"take {entry.name!r}"))
        return {**raw, "solver": entry.name, "spacing": raw.get("spacing") or spacing}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        low, high = self.guidance_interval
        if low >= high:
            raise ValueError(explain(f"guidance_interval = ({low}, {high})", "the first must be below the second"))
        entry, _ = find_solver(self.solver)
        if entry.name == "ddim_inverse":
            raise ValueError(explain("solver 'ddim_inverse' goes from a picture to its noise", "a solver that draws is needed"))
        if self.eta and not entry.takes_eta:
            raise ValueError(explain(f"eta = {self.eta} with solver {self.solver!r}", "only ddim takes eta", "leave eta out"))
        entry.settings(self.solver_options)
        check_seeds(self.seeds, entry, self.eta, self.solver_options, self.fill)
        if self.ensd and not self.seeds.startswith("webui"):
            raise ValueError(explain(f"ensd = {self.ensd} with seeds {self.seeds!r}", "only those of the web UI have it"))
        if self.place != (0, 1) and not self._in_rows:
            raise ValueError(explain(f"place = {self.place} with seeds {self.seeds!r}", "only those of ComfyUI have it"))
        if not self.place[0] < self.place[1] or (self.count > 1 and self.place != (0, 1)):
            given = f"place = {self.place}, count = {self.count}"
            raise ValueError(explain(given, "the first must be below the second, and the count 1"))
        if self.sketch is not None and self.image is not None and (self.mask is None or self.strength < 1):
            raise ValueError(explain("a sketch and a picture to start from", "one is possible", "leave one of them out"))
        if self.sketch is not None and self.seeds != NATIVE:
            given = f"a sketch with seeds {self.seeds!r}"
            raise ValueError(explain(given, "no other program makes sketches", f"take seeds = {NATIVE!r}"))
        if self.mask is not None and self.hires is not None:
            raise ValueError(explain("hires with a mask", "a second pass is for whole pictures", "leave one of them out"))
        if self.hires is not None and self.seeds != NATIVE and not self.seeds.startswith("webui"):
            allowed = "ours and the web UI's are known for a second pass"
            raise ValueError(explain(f"hires with seeds {self.seeds!r}", allowed, "take seeds = 'native'"))
        if self.mask is not None and self.image is None:
            raise ValueError(explain("a mask without an image", "the picture that it lies on is needed"))
        if self.mask is not None and self.image is not None and self.mask.size != self.image.size:
            sizes = (f"{picture.width}x{picture.height}" for picture in (self.mask, self.image))
            raise ValueError(explain("a mask of {} on a picture of {}".format(*sizes), "both must be equal"))
        if self.mask is not None and self.mask.getbbox() is None:
            raise ValueError(explain("a mask that is black all over", "white marks what is made anew"))
        return self

    def replace(self, **changes: Any) -> Self:
        """A copy with these fields changed, checked as a new one is; the seed stays unless it is among them.

        Raises:
            SpecError: when a changed field is unknown or wrong.
        """
        kept = {name: getattr(self, name) for name in {*self.model_fields_set, "seed"}}
        if self.mask is None and changes.get("mask") is not None:
            kept.pop("strength", None)  # it was that of a picture without a mask
        return type(self)(**{**kept, **changes})

    def each(self) -> list[Self]:
        """The request as one request a picture, which comes out the same alone.

        Picture k carries `seed + k`; with a variation that counts up instead, and in rows of ComfyUI the place.
        """
        return [self.model_copy(update={**self._told(k), "count": 1}) for k in range(self.count)]  # they share their pictures

    def _told(self, k: int) -> dict[str, Any]:
        """What picture k has of its own."""
        if self._in_rows:
            return {"place": (k, self.count)} if self.count > 1 else {}
        if self.variation is not None and self.variation[1] > 0:
            return {"variation": ((self.variation[0] + k) % 2**64, self.variation[1])}
        return {"seed": (self.seed + k) % 2**64}

    @property
    def _in_rows(self) -> bool:
        return self.seeds != NATIVE and PROFILES[self.seeds].rows

    def to_json(self) -> str:
        """Every field that is set as JSON, defaults too: a later version may have others.

        What is left to the model is left out.
        """
        told = self.model_dump(mode="json", exclude=self._left_to_the_model, exclude_none=True)
        if "sketch" not in self._left_to_the_model:
            told["sketch"] = self.sketch  # None, too: the model may have another one
        return json.dumps(told)

    @property
    def _left_to_the_model(self) -> set[str]:
        return set() if "steps" in self.model_fields_set else {*USUAL} - self.model_fields_set

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote.

        Raises:
            SpecError: when the text is not JSON or a field is wrong.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise SpecError(describe_errors(error, "request")) from None

    def __repr_args__(self) -> list[tuple[str | None, Any]]:
        told = self.model_dump(exclude_defaults=True, exclude=set(PICTURES))
        return [*told.items(), *((name, f"<{picture.width}x{picture.height}>") for name, picture in self.pictures().items())]

    def pictures(self) -> dict[str, Image.Image]:
        """The fields that hold a picture, by name; what `context` holds is not among them."""
        return {name: picture for name in PICTURES if (picture := getattr(self, name)) is not None}
