"""`ModelSpec`: a whole latent diffusion model as frozen data, the content of `spec.json`.

Every part names its `kind`; `model/build.py` looks it up in a literal table. Widths are absolute
channel counts, level by level from the highest resolution to the lowest.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from undiffuse.core.errors import explain
from undiffuse.core.spec import Spec
from undiffuse.diffusion.prediction import check_prediction
from undiffuse.diffusion.schedule import ScheduleSpec, build_schedule

Positive = Annotated[int, Field(ge=1)]


class AutoencoderSpec(Spec):
    """A KL-regularised convolutional autoencoder (Rombach et al. 2022, appendix G).

    `patch` folds p x p pixels into channels before the first convolution and unfolds them after the
    last: fewer full-resolution convolutions, which are what a CPU spends its time on. `shortcut` adds linear
    projections of whole patches beside both halves. `patch = 1` with mid attention and no shortcut is Stable
    Diffusion's autoencoder.
    """

    kind: Literal["kl"] = "kl"
    in_channels: Positive = 3
    latent_channels: Positive
    widths: tuple[Positive, ...]
    blocks: Positive = 2
    decoder_blocks: Positive | None = None
    attention_levels: tuple[int, ...] = ()
    mid_attention: bool = True
    patch: Positive = 1
    shortcut: bool = False

    @property
    def factor(self) -> int:
        """Pixels on a side of a picture for one on a side of its latent."""
        return self.patch * 2 ** (len(self.widths) - 1)


class LatentSpec(Spec):
    """How latents are normalised: z = (mean - shift) * scale, one number a channel, or one for all."""

    shift: tuple[float, ...] = (0.0,)
    scale: tuple[float, ...] = (1.0,)


class CodecSpec(Spec):
    """An autoencoder with the normalisation of its latents."""

    autoencoder: AutoencoderSpec
    latent: LatentSpec = LatentSpec()

    @model_validator(mode="after")
    def _lengths(self) -> Self:
        for name, values in (("shift", self.latent.shift), ("scale", self.latent.scale)):
            if len(values) not in (1, self.autoencoder.latent_channels):
                allowed = f"1 or latent_channels = {self.autoencoder.latent_channels} values are allowed"
                raise ValueError(explain(f"latent.{name} holds {len(values)} values", allowed))
        return self


class UNetSpec(Spec):
    """The denoising U-Net; in and out channels follow from the autoencoder's latent."""

    kind: Literal["unet"] = "unet"
    widths: tuple[Positive, ...]
    blocks: Positive = 2
    depths: tuple[int, ...]
    mid_depth: int | None = None
    heads: Positive | None = None
    head_width: Positive | None = None
    context_width: Positive | None = None
    vector_width: Positive | None = None
    spatial_channels: int = 0
    linear_projection: bool = False
    dropout: float = 0.0


class BertSpec(Spec):
    """Sizes of a BERT-family text encoder; the defaults are all-MiniLM-L6-v2's."""

    vocabulary: Positive = 30522
    width: Positive = 384
    layers: Positive = 6
    heads: Positive = 12
    hidden: Positive = 1536
    positions: Positive = 512


class TextSpec(Spec):
    """Captions through a frozen text encoder: token states for cross-attention, their mean as a vector."""

    kind: Literal["text"] = "text"
    encoder: BertSpec = BertSpec()
    length: Positive = 24
    pooled: bool = True


class LabelSpec(Spec):
    """Class names through a learned table."""

    kind: Literal["label"] = "label"
    classes: tuple[str, ...]
    width: Positive
    route: Literal["vector", "tokens"] = "vector"


ConditionerSpec = Annotated[TextSpec | LabelSpec, Field(discriminator="kind")]


class ModelSpec(Spec):
    """Codec, denoiser, conditioner, schedule and prediction: everything but the weights.

    Raises:
        SpecError: when parts do not fit each other, or eps is predicted where alpha reaches 0.
    """

    format: Literal["undiffuse-model/1"] = "undiffuse-model/1"
    name: str
    size: Positive
    codec: CodecSpec
    denoiser: UNetSpec
    conditioners: tuple[ConditionerSpec, ...] = ()
    schedule: ScheduleSpec
    prediction: Literal["eps", "x0", "v", "flow"]

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        check_prediction(self.prediction, build_schedule(self.schedule))
        factor = self.codec.autoencoder.factor
        if self.size % factor:
            raise ValueError(explain(f"size {self.size} does not divide", f"a multiple of {factor} is needed"))
        tokens, vector = self._routes()
        if tokens != self.denoiser.context_width:
            raise ValueError(_mismatch("context_width", self.denoiser.context_width, "tokens", tokens))
        if vector != self.denoiser.vector_width:
            raise ValueError(_mismatch("vector_width", self.denoiser.vector_width, "vector", vector))
        return self

    def _routes(self) -> tuple[int | None, int | None]:
        """Widths that the conditioners deliver on the token and the vector route."""
        tokens: int | None = None
        vector = 0
        for part in self.conditioners:
            if isinstance(part, TextSpec):
                tokens = part.encoder.width
                vector += part.encoder.width if part.pooled else 0
            elif part.route == "tokens":
                tokens = part.width
            else:
                vector += part.width
        return tokens, vector or None


def _mismatch(key: str, given: int | None, route: str, needed: int | None) -> str:
    return explain(
        f"denoiser.{key} = {given}, but the conditioners deliver {route} of width {needed}",
        "both must be equal",
        f"set denoiser.{key} = {needed}" if needed else f"leave denoiser.{key} out",
    )
