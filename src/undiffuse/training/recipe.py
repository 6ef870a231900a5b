"""`Recipe`: everything a training run is made from, read from TOML, written resolved into the run's folder."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from undiffuse.conditioners.base import PartSpec
from undiffuse.conditioners.text import SketchSpec, TextSpec
from undiffuse.core.errors import SpecError, UsageError, explain
from undiffuse.core.spec import Spec
from undiffuse.data.atomic import write_text
from undiffuse.data.render import RenderSpec
from undiffuse.diffusion.laws import LawSpec
from undiffuse.diffusion.schedule import ScheduleSpec
from undiffuse.diffusion.weighting import WeightingSpec
from undiffuse.model.spec import AnyAutoencoderSpec, ConditionerSpec, PreviewSpec, UNetSpec, UsualSpec
from undiffuse.training.overrides import apply, is_known, known_keys, nearest

Positive = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Whole = Annotated[int, Field(ge=0)]
Above0 = Annotated[float, Field(gt=0)]
AtLeast0 = Annotated[float, Field(ge=0)]
Below1 = Annotated[float, Field(ge=0, lt=1)]


class AlsoSpec(Spec):
    """One more data set, whose pictures are rendered and encoded `variants` times, as the recipe renders its own.

    An autoencoder sees each of them `variants` times as often as one of the recipe's own, rendered anew every time.
    """

    path: str
    variants: Positive = 1


class DataSpec(Spec):
    """Which pictures, and how they are shown to the net.

    `caption` is said of those of which nothing is said; `label` names a field to take the class from ("concept").
    `only` keeps the pictures whose fields have one of these values: `only = { subgroup = ["food-fruit"] }`.
    `also` names further data sets that a U-Net or an autoencoder learns from, as they are: `[[data.also]]`,
    `path = "data/scenes"`. Of all renderings, whatever set they are of, each is shown as often as any other.
    """

    path: str
    also: tuple[AlsoSpec, ...] = ()
    only: Mapping[str, tuple[str, ...]] = {}
    caption: str = ""
    label: str = ""
    render: RenderSpec = RenderSpec()
    memory_gib: AtLeast0 = 4.0


class OptimizerSpec(Spec):
    """AdamW, or Muon for matrices and kernels and AdamW for the rest, with warm-up and decay.

    `rate` is the peak rate for the whole batch, never rescaled behind your back; one that suits AdamW suits Muon, and
    `momentum` is Muon's. `decay` starts after the share `hold` of all steps and ends at 0 with the last step.
    """

    kind: Literal["adamw", "muon"] = "adamw"
    rate: Above0 = 1e-3
    betas: tuple[Below1, Below1] = (0.9, 0.99)
    momentum: Below1 = 0.95
    weight_decay: AtLeast0 = 0.01
    clip: Above0 = 1.0
    warmup: Whole = 200
    decay: Literal["linear", "cosine", "none"] = "linear"
    hold: Fraction = 0.5
    ema: Fraction = 0.999


class RunSpec(Spec):
    """How long, how much at a time, how often to save and show.

    `compile` costs a minute or two at the start and then takes steps about 1.5 times as fast; it needs a C++
    compiler. The same bits on resume are promised with and without it, not between the two.
    """

    steps: Positive
    batch: Positive = 32
    seed: int = 0
    device: str = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    compile: bool = False
    save_every: Positive = 500
    log_every: Positive = 20
    preview_every: Whole = 500


class AdversarialSpec(Spec):
    """A patch discriminator (Isola et al. 2017) that joins at step `start` and is ramped in over `ramp` steps."""

    start: Whole
    ramp: Positive = 1000
    weight: AtLeast0 = 0.5
    width: Positive = 64
    layers: Positive = 3
    rate: Above0 = 2e-4


class PerceptualSpec(Spec):
    """A distance between the features that a frozen backbone sees.

    "lpips" is VGG16 with the heads of Zhang et al. 2018, read from files of your own: `weights` names one, or two
    that hold all of it together. The original weighs it 1.
    """

    backbone: Literal["efficientnet_lite0", "lpips"] = "efficientnet_lite0"
    weights: str | tuple[str, ...] = ()
    weight: float = 0.5

    @property
    def files(self) -> tuple[str, ...]:
        """Where the weights lie."""
        return (self.weights,) if isinstance(self.weights, str) else self.weights

    @model_validator(mode="after")
    def _weights_belong(self) -> Self:
        if bool(self.files) != (self.backbone == "lpips"):
            given = f"backbone = {self.backbone!r} with weights = {list(self.files)}"
            allowed = "files of weights belong to 'lpips', which is not part of this package"
            raise ValueError(explain(given, allowed, "name the files, or choose the other backbone"))
        return self


class AutoencoderObjective(Spec):
    """Stage one: reconstruction + KL or codes, optionally perceptual and adversarial terms (Rombach et al. 2022, eq. 25).

    `kl` counts for an autoencoder of kind "kl"; for kind "vq" `codebook` draws codes to latents and `commitment`,
    the beta of van den Oord et al. 2017, latents to codes (the original code has the two the wrong way round).
    `start` names a model or run whose autoencoder the run goes on from; it needs no `autoencoder` table.

    With `learn = "decoder"` latents stay what they are, so that a U-Net trained on them stays right, and the decoder
    alone goes on; up to `latent_noise` of noise is then added to latents, for drawn ones are never quite right either.
    """

    kind: Literal["autoencoder"] = "autoencoder"
    start: str | None = None
    learn: Literal["both", "decoder"] = "both"
    latent_noise: AtLeast0 = 0.0
    crop: Positive = 64
    l1: float = 1.0
    l2: float = 1.0
    gradient: float = 0.5
    kl: float = 1e-4
    codebook: float = 1.0
    commitment: float = 0.25
    perceptual: PerceptualSpec | None = None
    adversarial: AdversarialSpec | None = None

    @model_validator(mode="after")
    def _decoder_goes_on(self) -> Self:
        if self.learn == "decoder" and self.start is None:
            given = "objective.learn = 'decoder' without objective.start"
            raise ValueError(explain(given, "the encoder stays what it is, so a trained one is needed", "name its model"))
        if self.latent_noise and self.learn != "decoder":
            given = f"objective.latent_noise = {self.latent_noise:g}"
            raise ValueError(explain(given, "it is for objective.learn = 'decoder' only", "set that, or leave it out"))
        return self


class DiffusionObjective(Spec):
    """Stage two: the denoising loss on cached latents (Rombach et al. 2022, eq. 2 and 3).

    `codec` names where the frozen autoencoder comes from: "default" (the embedded model), a run, a model
    folder, or "pixels" for none at all. `start` names a model whose denoiser and conditioners the run goes on from, and
    its codec where `codec` names no other; it needs no `denoiser` table.

    Latents are normalised channel by channel over the whole set. At `importance` 0 every channel gets deviation 1; at
    1 it gets one in proportion to how much it changes the picture, so that what shapes are made of stands out of
    the noise before fine detail does, as it does in pixels; in between, a power of that.

    Every picture is rendered and encoded `variants` times; with probability `drop` the net is told nothing that
    guidance is about, so that there is an unconditional answer to compare with (Ho & Salimans 2022). Every
    conditioner may be left out alone as well, by a `drop` of its own.
    """

    kind: Literal["diffusion"] = "diffusion"
    codec: str | None = None
    start: str | None = None
    schedule: ScheduleSpec = ScheduleSpec(kind="flow")
    prediction: Literal["eps", "x0", "v", "flow"] = "flow"
    law: LawSpec = LawSpec(kind="logit_normal")
    weighting: WeightingSpec = WeightingSpec(kind="uniform")
    drop: Fraction = 0.1
    importance: Fraction = 0.0
    variants: Positive = 4
    preview_prompts: tuple[str, ...] = ()


class PreviewObjective(Spec):
    """A tiny decoder learns to draw what a codec's own decoder draws, for previews of drawings under way.

    `start` names the model, or the autoencoder run, that gets it: the run's model is that one with the decoder in it.
    """

    kind: Literal["preview_decoder"] = "preview_decoder"
    start: str = "default"
    crop: Positive = 128
    l1: float = 1.0
    l2: float = 1.0
    gradient: float = 0.5
    net: PreviewSpec = PreviewSpec()


class SketchObjective(Spec):
    """Between the stages: a small net learns the mean latent of a caption, E[z | y], which stage two then begins with.

    `start` names the model whose text part gets it, in place of one that it may have; the U-Net grows inputs for it, with
    weights of zero, so that the run's model draws as before until stage two goes on from it. `drop` is the share
    of renderings of which nothing is said; `noise` disturbs token states by that share of their deviation, so that words
    nearby are understood too. Pictures are rendered `variants` times, as in stage two.

    The share `apart` of all pictures is not shown to it. A U-Net that learns from all of them then meets sketches of what
    was never seen, as it will when it draws, and does not trust them more than they deserve.

    With `remember` the net gets a memory of the pictures that it is shown, and learns which ones a caption calls to mind;
    `recall` weighs that loss, in nats, against the squared error. A share `strange` of captions is made to call to mind
    others of the same label (`data.label`) in place of their own picture, as what was never seen must.

    With `net.two`, which needs `remember`, it tells two things in a caption apart; it learns that from renderings of two
    (`data.render.pair`).

    `words` reads captions by another encoder from now on: `words = { source = "minilm", rows = 12000 }`.
    """

    kind: Literal["sketch"] = "sketch"
    start: str = "default"
    variants: Positive = 4
    apart: Below1 = 0.0
    drop: Fraction = 0.02
    noise: AtLeast0 = 0.0
    remember: bool = False
    recall: Above0 = 0.05
    strange: Fraction = 0.25
    words: TextSpec | None = None
    net: SketchSpec = SketchSpec()
    preview_prompts: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _remembering(self) -> Self:
        if self.net.two and not self.remember:
            given = "net.two = true without remember"
            raise ValueError(explain(given, "it is about what is remembered", "set remember = true"))
        return self


class Recipe(Spec):
    """One training run: what to learn from which pictures, with which net, steered by what, for how long.

    `conditioners` are what steers stage two, a table each: `[[conditioners]]`, `kind = "text"`. A run that goes on
    from a model keeps those of the model; kinds that it has not yet learned are added, of the others only `drop`
    counts, and the `length` of captions. On the command line a conditioner goes by its kind:
    `--set conditioners.text.drop=0.1`.

    `usual` is how the model is drawn with by requests that name no steps. It is never that of the model that a run goes on
    from: what suits one may not suit another.
    """

    name: str
    data: DataSpec
    run: RunSpec
    optimizer: OptimizerSpec = OptimizerSpec()
    objective: Annotated[
        AutoencoderObjective | SketchObjective | DiffusionObjective | PreviewObjective, Field(discriminator="kind")
    ]
    autoencoder: AnyAutoencoderSpec | None = None
    denoiser: UNetSpec | None = None
    conditioners: tuple[ConditionerSpec, ...] = ()
    usual: UsualSpec | None = None

    @model_validator(mode="after")
    def _learned_from(self) -> Self:
        if self.data.also and not isinstance(self.objective, (DiffusionObjective, AutoencoderObjective)):
            given = f"data.also in a recipe of kind {self.objective.kind!r}"
            raise ValueError(explain(given, "only U-Nets and autoencoders learn from several data sets", "leave it out"))
        if self.usual is not None and not isinstance(self.objective, (DiffusionObjective, SketchObjective)):
            given = f"[usual] in a recipe of kind {self.objective.kind!r}"
            raise ValueError(explain(given, "it is about drawing from words", "leave it out"))
        return self


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe and apply `a.b=c` overrides.

    Raises:
        UsageError: when the file is missing or an override is not of the form a.b=c.
        SpecError: when TOML or a value is wrong; every wrong key is listed.
    """
    path = Path(path)
    if not path.is_file():
        raise UsageError(
            explain(f"recipe {str(path)!r} is not there", "a TOML file is needed", "see recipes/ for some to start from")
        )
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SpecError(explain(f"{path} is not valid TOML: {error}", "see https://toml.io")) from None
    return _parse(raw, str(path), overrides)


def write_recipe(recipe: Recipe, path: Path) -> None:
    """Write the resolved recipe as JSON; the file appears whole or not at all.

    What conditioners leave out stays out: a model to go on from fills it in, and would not where a default had been written.
    """
    told = recipe.model_dump(mode="json")
    told["conditioners"] = [_as_said(part) for part in recipe.conditioners]
    if isinstance(recipe.objective, SketchObjective) and recipe.objective.words is not None:
        told["objective"]["words"] = _as_said(recipe.objective.words)
    write_text(path, json.dumps(told, indent=2) + "\n")


def _as_said(part: PartSpec) -> dict[str, Any]:
    """A conditioner's table with what was said of it alone, and its kind."""
    return {"kind": part.kind} | part.model_dump(mode="json", exclude_unset=True)


def read_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read what `write_recipe` wrote and apply `a.b=c` overrides.

    Raises:
        UsageError: when the file is missing, which means the folder is no run, or an override is wrong.
        SpecError: when a value is wrong.
    """
    if not path.is_file():
        given = f"{path.parent} is not a run" if path.parent.exists() else f"{path.parent} is not there"
        raise UsageError(explain(given, "a folder made by 'undiffuse train' is needed", "start one: undiffuse train RECIPE"))
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SpecError(explain(f"{path} is damaged ({error})", "the recipe of the run is needed", "start a new run")) from None
    return _parse(raw, str(path), overrides)


def _parse(raw: dict[str, Any], where: str, overrides: Sequence[str]) -> Recipe:
    keys = known_keys(Recipe)
    for override in overrides:
        apply(raw, override, keys)
    try:
        return Recipe.parse(raw, where=where)
    except SpecError as error:
        meant = [near[0] for key in _leaves(raw) if not is_known(key, keys) and (near := nearest(key, keys))]
        raise SpecError(f"{error}; did you mean {', '.join(meant)}?" if meant else str(error)) from None


def _leaves(raw: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in raw.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name
