"""`ModelSpec`: a whole latent diffusion model as frozen data, the content of `spec.json`.

Every part names its `kind`; `model/build.py` looks it up in a literal table. Widths are absolute
channel counts, level by level from the highest resolution to the lowest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, Union

from pydantic import BeforeValidator, Field, model_validator

from undiffuse.conditioners.base import PartSpec, Routes
from undiffuse.conditioners.table import KINDS
from undiffuse.core.errors import SpecError, explain
from undiffuse.core.spec import Spec
from undiffuse.diffusion.prediction import check_prediction
from undiffuse.diffusion.schedule import ScheduleSpec, build_schedule
from undiffuse.networks.unet import count_heads

Positive = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Widths = Annotated[tuple[Positive, ...], Field(min_length=1)]


class ConvolutionalSpec(Spec):
    """Sizes of a convolutional autoencoder (Rombach et al. 2022, appendix G).

    `patch` folds p x p pixels into channels before the first convolution and unfolds them after the
    last: fewer full-resolution convolutions, which are what a CPU spends its time on. `shortcut` adds linear
    projections of whole patches beside both halves. `patch = 1` and no shortcut are the published autoencoders.
    """

    kind: Any  # every kind narrows it to a literal of its own
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


class AutoencoderSpec(ConvolutionalSpec):
    """An autoencoder whose latents are kept near a Gaussian; with mid attention and `patch = 1`, Stable Diffusion's."""

    kind: Literal["kl"] = "kl"


class VQSpec(ConvolutionalSpec):
    """An autoencoder whose decoder knows `codes` latents only (Esser et al. 2021)."""

    kind: Literal["vq"] = "vq"
    codes: Positive


class IdentitySpec(Spec):
    """No autoencoder: diffusion works on the pixels themselves."""

    kind: Literal["identity"] = "identity"
    in_channels: Positive = 3

    @property
    def latent_channels(self) -> int:
        """Those of a picture."""
        return self.in_channels

    @property
    def factor(self) -> int:
        """A latent is as large as its picture."""
        return 1


def _kl_by_default(raw: Any) -> Any:
    """A table without a kind is of the first that there was."""
    return {"kind": "kl", **raw} if isinstance(raw, Mapping) and "kind" not in raw else raw


AnyAutoencoderSpec = Annotated[
    AutoencoderSpec | VQSpec | IdentitySpec, Field(discriminator="kind"), BeforeValidator(_kl_by_default)
]


class LatentSpec(Spec):
    """How latents are normalised: z = (mean - shift) * scale, one number a channel, or one for all.

    `importance` tells how far the scale follows what each channel does to the picture; whoever trains on goes on with it.
    """

    shift: tuple[Finite, ...] = (0.0,)
    scale: tuple[Annotated[Finite, Field(gt=0)], ...] = (1.0,)
    importance: Annotated[float, Field(ge=0, le=1)] = 0.0


class PreviewSpec(Spec):
    """A tiny second decoder that shows drawings under way; see `networks/tiny_decoder.py`."""

    kind: Literal["tiny"] = "tiny"
    width: Positive = 64
    blocks: Positive = 3
    patch: Positive = 1


class CodecSpec(Spec):
    """An autoencoder with the normalisation of its latents, and with a decoder for previews if it has one."""

    autoencoder: AnyAutoencoderSpec
    latent: LatentSpec = LatentSpec()
    preview: PreviewSpec | None = None

    @model_validator(mode="after")
    def _lengths(self) -> Self:
        for name, values in (("shift", self.latent.shift), ("scale", self.latent.scale)):
            if len(values) not in (1, self.autoencoder.latent_channels):
                allowed = f"1 or latent_channels = {self.autoencoder.latent_channels} values are allowed"
                raise ValueError(explain(f"latent.{name} holds {len(values)} values", allowed))
        return self

    @model_validator(mode="after")
    def _preview_reaches_pixels(self) -> Self:
        if self.preview is not None:
            if isinstance(self.autoencoder, IdentitySpec):
                raise ValueError(explain("preview beside autoencoder.kind = 'identity'", "its latents are pictures already"))
            doubled, rest = divmod(self.autoencoder.factor, self.preview.patch)
            if rest or doubled.bit_count() != 1:
                allowed = f"the autoencoder's factor {self.autoencoder.factor} must be that times a power of two"
                raise ValueError(explain(f"preview.patch = {self.preview.patch}", allowed))
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
    vector_embedding: Literal["mlp", "table"] = "mlp"
    spatial_channels: Natural = 0
    linear_projection: bool = False
    cross_only: tuple[Natural, ...] = ()
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
        wrong = [level for level in self.cross_only if level >= len(self.depths) or not self.depths[level]]
        if wrong:
            raise ValueError(explain(f"cross_only names level {wrong[0]}", "it has no transformer"))
        attending = {width for width, depth in zip(self.widths, self.depths, strict=True) if depth}
        if self.mid_depth or (self.mid_depth is None and attending):
            attending.add(self.widths[-1])
        for width in sorted(attending):
            try:
                count_heads(width, self.heads, self.head_width)
            except SpecError as error:
                raise ValueError(str(error)) from None
        return self


class UsualSpec(Spec):
    """How a model is best drawn with: what a request that names no `steps` takes where it says nothing else.

    | field      | meaning                                                                                       |
    |------------|-----------------------------------------------------------------------------------------------|
    | `steps`    | how many times the denoiser is asked                                                          |
    | `guidance` | strength of classifier-free guidance                                                          |
    | `sketch`   | share of noise over the sketch that pictures of words alone begin with; None: noise alone     |
    | `hole`     | the same over a hole that is closed, where words are said of it and there is a memory of      |
    |            | pictures; None: as much as over a sketch                                                      |
    """

    steps: Annotated[int, Field(ge=1, le=1000)]
    guidance: Annotated[float, Field(ge=0, le=100)]
    sketch: Annotated[float, Field(ge=0.01, le=1)] | None = None
    hole: Annotated[float, Field(ge=0.01, le=1)] | None = None


if TYPE_CHECKING:
    ConditionerSpec = PartSpec
else:  # one kind a row of the table
    ConditionerSpec = Annotated[Union[tuple(KINDS.values())], Field(discriminator="kind")]  # noqa: UP007


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
    usual: UsualSpec | None = None

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
        try:
            self._check_routes()
            self._check_usual()
        except SpecError as error:
            raise ValueError(str(error)) from None
        return self

    def _check_routes(self) -> None:
        tokens, vector, spatial = self._routes()
        if (tokens or None) != self.denoiser.context_width:
            raise ValueError(_mismatch("context_width", self.denoiser.context_width, "tokens of width", tokens))
        if (vector or None) != self.denoiser.vector_width:
            raise ValueError(_mismatch("vector_width", self.denoiser.vector_width, "a vector of width", vector))
        if spatial != self.denoiser.spatial_channels:
            raise ValueError(_mismatch("spatial_channels", self.denoiser.spatial_channels or None, "maps of width", spatial))
        if tokens and not vector and not self.denoiser.attends:
            given = "the conditioners deliver tokens, but denoiser.depths are all 0"
            raise ValueError(explain(given, "tokens are read by transformers only", "give a level a depth of 1 or more"))

    def _check_usual(self) -> None:
        if self.usual is None or any(part.kind == "text" and part.routes().spatial for part in self.conditioners):
            return
        begun = {"sketch": self.usual.sketch, "hole": self.usual.hole}
        given = next((f"usual.{name} = {share:g}" for name, share in begun.items() if share is not None), None)
        if given is not None:
            raise ValueError(explain(given, "no conditioner makes a sketch of what words say", "leave it out"))

    def _routes(self) -> Routes:
        """Widths that the conditioners deliver together on each route."""
        kinds = [part.kind for part in self.conditioners]
        twice = next((kind for kind in kinds if kinds.count(kind) > 1), None)
        if twice is not None:
            given = f"{kinds.count(twice)} conditioners of kind {twice!r}"
            raise ValueError(explain(given, "a request says one thing of each kind, so one is allowed"))
        return join_routes(self.conditioners)


def join_routes(parts: Sequence[PartSpec]) -> Routes:
    """Widths that these parts deliver together.

    Raises:
        SpecError: when two deliver tokens of different widths.
    """
    routes = [part.routes() for part in parts]
    tokens = {route.tokens for route in routes if route.tokens}
    if len(tokens) > 1:
        raise SpecError(explain(f"conditioners with tokens of widths {sorted(tokens)}", "all tokens must have one width"))
    return Routes(next(iter(tokens), 0), sum(route.vector for route in routes), sum(route.spatial for route in routes))


def _mismatch(key: str, given: int | None, route: str, needed: int) -> str:
    return explain(
        f"denoiser.{key} = {given}, but the conditioners deliver {route} {needed or None}",
        "both must be equal",
        f"set denoiser.{key} = {needed}" if needed else f"leave denoiser.{key} out",
    )
