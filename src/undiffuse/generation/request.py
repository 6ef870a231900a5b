"""`Request`: everything that decides a picture, apart from the model; it travels inside the PNG."""

from __future__ import annotations

import base64
import binascii
import io
import secrets
from typing import Annotated, Any, Literal, Self

from PIL import Image, UnidentifiedImageError
from pydantic import ConfigDict, Field, ValidationError, field_serializer, field_validator, model_validator

from undiffuse.core.errors import SpecError, explain
from undiffuse.core.pictures import to_rgb
from undiffuse.core.spec import Spec, describe_errors
from undiffuse.diffusion.solvers.table import find_solver

RANDOM = -1
DATA_URL = "data:image/png;base64,"

Side = Annotated[int, Field(ge=1, le=8192)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class Request(Spec):
    """What to draw and how. Frozen: `replace` makes a changed copy.

    | field               | meaning                                                                         |
    |---------------------|---------------------------------------------------------------------------------|
    | `prompt`            | what to show; may be the only positional argument                               |
    | `negative`          | what to steer away from                                                         |
    | `label`             | a class name, for models that learned classes                                   |
    | `steps`             | how many times the denoiser is asked, at least about                            |
    | `guidance`          | strength of classifier-free guidance; 1 turns it off                            |
    | `guidance_interval` | share of the noise range, 0 clean to 1 noise, in which guidance works           |
    | `guidance_rescale`  | 0 to 1, takes back the contrast that guidance adds (Lin et al. 2024, sec. 3.4)  |
    | `solver`            | any known spelling: "dpmpp_2m", "Euler a", "DPM++ 2M Karras", "DDIMScheduler"   |
    | `spacing`           | how levels are spaced; None takes the solver's own                              |
    | `eta`               | share of fresh noise in DDIM, 0 to 1                                            |
    | `seed`              | seed of the first picture; -1 or None draws one here and now                    |
    | `count`             | how many pictures; picture k is the one that `seed + k` gives alone             |
    | `width`, `height`   | in pixels; None takes the model's own size                                      |
    | `image`, `strength` | a picture to start from, and how far to leave it, 0 to 1                        |

    Raises:
        SpecError: naming every wrong field, what was given and what is allowed.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    prompt: str = ""
    negative: str = ""
    label: str | None = None
    steps: Annotated[int, Field(ge=1, le=1000)] = 20
    guidance: Annotated[float, Field(ge=0, le=100)] = 4.0
    guidance_interval: tuple[Fraction, Fraction] = (0.0, 1.0)
    guidance_rescale: Fraction = 0.0
    solver: str = "dpmpp_2m"
    spacing: Literal["trailing", "leading", "linspace", "karras", "exponential"] | None = None
    eta: Fraction = 0.0
    seed: Annotated[int, Field(ge=0, lt=2**64)] = RANDOM
    count: Annotated[int, Field(ge=1, le=10_000)] = 1
    width: Side | None = None
    height: Side | None = None
    image: Image.Image | None = None
    strength: Annotated[float, Field(gt=0, le=1)] = 0.75

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

    @model_validator(mode="before")
    @classmethod
    def _one_spelling(cls, raw: dict[str, Any]) -> dict[str, Any]:
        """The solver under its own name; a spacing that its old name carried ("DPM++ 2M Karras") apart."""
        if not isinstance(raw.get("solver"), str):
            return raw
        entry, spacing = find_solver(raw["solver"])
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
        return self

    @field_validator("image", mode="before")
    @classmethod
    def _decoded(cls, image: Any) -> Any:
        """PIL images in RGB; base64 text, with or without a data URL in front, is decoded."""
        if isinstance(image, str):
            image = _from_base64(image)
        return to_rgb(image) if isinstance(image, Image.Image) else image

    @field_serializer("image", when_used="json-unless-none")
    def _encoded(self, image: Image.Image) -> str:
        file = io.BytesIO()
        image.save(file, "PNG")
        return DATA_URL + base64.b64encode(file.getvalue()).decode()

    def replace(self, **changes: Any) -> Self:
        """A copy with these fields changed, checked as a new one is; the seed stays unless it is among them.

        Raises:
            SpecError: when a changed field is unknown or wrong.
        """
        return type(self)(**{**dict(self), **changes})

    def each(self) -> list[Self]:
        """The request as one request a picture: picture k carries `seed + k` and comes out the same alone."""
        return [self.replace(seed=(self.seed + k) % 2**64, count=1) for k in range(self.count)]

    def to_json(self) -> str:
        """Every field that is set as JSON, defaults too: a later version may have others."""
        return self.model_dump_json(exclude_none=True)

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
        told = self.model_dump(exclude_defaults=True, exclude={"image"})
        size = f"<{self.image.width}x{self.image.height}>" if self.image else None
        return [*told.items(), *([("image", size)] if size else [])]


def _from_base64(text: str) -> Image.Image:
    try:
        data = base64.b64decode(text.rpartition(",")[2], validate=True)
        image = Image.open(io.BytesIO(data))
        image.load()
    except (binascii.Error, UnidentifiedImageError, OSError):
        raise ValueError(explain("the text is no picture", "a PNG, JPEG or WebP file in base64 is needed")) from None
    return image
