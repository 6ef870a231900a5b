"""`ModelSpec`: a whole latent diffusion model as frozen data, the content of `spec.json`.

Every part names its `kind`; `model/build.py` looks it up in a literal table. Widths are absolute
channel counts, level by level from the highest resolution to the lowest.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from undiffuse.core.errors import SpecError, explain
from undiffuse.core.spec import Spec
from undiffuse.diffusion.prediction import check_prediction
from undiffuse.diffusion.schedule import ScheduleSpec, build_schedule
from undiffuse.networks.unet import count_heads

Positive = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Widths = Annotated[tuple[Positive, ...], Field(min_length=1)]


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
    widths: Widths
    blocks: Positive = 2
    decoder_blocks: Positive | None = None
    attention_levels: tuple[Natural, ...] = ()
    mid_attention: bool = True
    patch: Positive = 1
    shortcut: bool = False

    @property
    def factor(self) -> int:
        """Pixels on a side of a picture for one on a side of its latent."""
        return self.patch * 2 ** (len(self.widths) - 1)

    @model_validator(mode="after")
    def _levels_exist(self) -> Self:
        wrong = [level for level in self.attention_levels if level >= len(self.widths)]
        if wrong:
            raise ValueError(explain(f"attention_levels names level {wrong[0]}", f"levels are 0 to {len(self.widths) - 1}"))
        return self


class LatentSpec(Spec):
    """How latents are normalised: z = (mean - shift) * scale, one number a channel, or one for all."""

    shift: tuple[Finite, ...] = (0.0,)
    scale: tuple[Annotated[Finite, Field(gt=0)], ...] = (1.0,)


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
    widths: Widths
    blocks: Positive = 2
    depths: tuple[Natural, ...]
    mid_depth: Natural | None = None
    heads: Positive | None = None
    head_width: Positive | None = None
    context_width: Positive | None = None
    vector_width: Positive | None = None
    spatial_channels: Natural = 0
    linear_projection: bool = False
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0

    @property
    def factor(self) -> int:
        """Both sides of a latent must be multiples of this: it is halved between levels."""
        return 2 ** (len(self.widths) - 1)

    @property
    def attends(self) -> bool:
        """Whether any stage has a transformer."""
        return any(self.depths) or bool(self.mid_depth)

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        if len(self.widths) != len(self.depths):
            raise ValueError(
                explain(f"{len(self.widths)} widths and {len(self.depths)} depths", "each level needs one of both")
            )
        attending = {width for width, depth in zip(self.widths, self.depths, strict=True) if depth}
        if self.mid_depth or (self.mid_depth is None and attending):
            attending.add(self.widths[-1])
        for width in sorted(attending):
            try:
                count_heads(width, self.heads, self.head_width)
            except SpecError as error:
                raise ValueError(str(error)) from None
        return self


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
        try:
            check_prediction(self.prediction, build_schedule(self.schedule))
        except SpecError as error:
            raise ValueError(str(error)) from None
        factor = self.codec.autoencoder.factor * self.denoiser.factor
        if self.size % factor:
            given = f"size {self.size} cannot be halved as often as autoencoder and denoiser do"
            raise ValueError(explain(given, f"a multiple of {factor} is needed"))
        if self.denoiser.spatial_channels:
            given = f"denoiser.spatial_channels = {self.denoiser.spatial_channels}, but no conditioner delivers a map"
            raise ValueError(explain(given, "both must be equal", "leave denoiser.spatial_channels out"))
        self._check_routes()
        return self

    def _check_routes(self) -> None:
        tokens, vector = self._routes()
        if tokens != self.denoiser.context_width:
            raise ValueError(_mismatch("context_width", self.denoiser.context_width, "tokens", tokens))
        if vector != self.denoiser.vector_width:
            raise ValueError(_mismatch("vector_width", self.denoiser.vector_width, "vector", vector))
        if tokens and not vector and not self.denoiser.attends:
            given = "the conditioners deliver tokens, but denoiser.depths are all 0"
            raise ValueError(explain(given, "tokens are read by transformers only", "give a level a depth of 1 or more"))

    def _routes(self) -> tuple[int | None, int | None]:
        """Widths that the conditioners deliver on the token and the vector route."""
        texts = [part for part in self.conditioners if isinstance(part, TextSpec)]
        labels = [part for part in self.conditioners if isinstance(part, LabelSpec)]
        if len(texts) > 1:
            raise ValueError(
                explain(f"{len(texts)} conditioners of kind 'text'", "a model has one tokenizer, so one is allowed")
            )
        tokens = {part.encoder.width for part in texts} | {part.width for part in labels if part.route == "tokens"}
        if len(tokens) > 1:
            raise ValueError(explain(f"conditioners with tokens of widths {sorted(tokens)}", "all tokens must have one width"))
        vector = sum(part.encoder.width for part in texts if part.pooled)
        vector += sum(part.width for part in labels if part.route == "vector")
        return next(iter(tokens), None), vector or None


def _mismatch(key: str, given: int | None, route: str, needed: int | None) -> str:
    return explain(
        f"denoiser.{key} = {given}, but the conditioners deliver {route} of width {needed}",
        "both must be equal",
        f"set denoiser.{key} = {needed}" if needed else f"leave denoiser.{key} out",
    )
