"""`Recipe`: everything a training run is made from, read from TOML, written resolved into the run's folder."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from undiffuse.core.errors import SpecError, UsageError, explain
from undiffuse.core.spec import Spec
from undiffuse.data.atomic import write_text
from undiffuse.data.render import RenderSpec
from undiffuse.diffusion.laws import LawSpec
from undiffuse.diffusion.schedule import ScheduleSpec
from undiffuse.diffusion.weighting import WeightingSpec
from undiffuse.model.spec import AutoencoderSpec, UNetSpec
from undiffuse.training.overrides import apply, is_known, known_keys, nearest

Positive = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Whole = Annotated[int, Field(ge=0)]
Above0 = Annotated[float, Field(gt=0)]
AtLeast0 = Annotated[float, Field(ge=0)]
Momentum = Annotated[float, Field(ge=0, lt=1)]


class DataSpec(Spec):
    """Which pictures, and how they are shown to the net; `caption` is said of those of which nothing is said."""

    path: str
    caption: str = ""
    render: RenderSpec = RenderSpec()
    memory_gib: AtLeast0 = 4.0


class OptimizerSpec(Spec):
    """AdamW with warm-up and decay; `rate` is the peak rate for the whole batch, never rescaled behind your back.

    `decay` starts after the share `hold` of all steps and ends at 0 with the last step.
    """

    kind: Literal["adamw"] = "adamw"
    rate: Above0 = 1e-3
    betas: tuple[Momentum, Momentum] = (0.9, 0.99)
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
    """A distance between the features that a frozen backbone sees."""

    backbone: Literal["efficientnet_lite0"] = "efficientnet_lite0"
    weight: float = 0.5


class AutoencoderObjective(Spec):
    """Stage one: reconstruction + KL, optionally perceptual and adversarial terms (Rombach et al. 2022, eq. 25).

    `start` names a model or run whose autoencoder the run goes on from; it needs no `autoencoder` table.
    """

    kind: Literal["autoencoder"] = "autoencoder"
    start: str | None = None
    crop: Positive = 64
    l1: float = 1.0
    l2: float = 1.0
    gradient: float = 0.5
    kl: float = 1e-4
    perceptual: PerceptualSpec | None = None
    adversarial: AdversarialSpec | None = None


class DiffusionObjective(Spec):
    """Stage two: the denoising loss on cached latents (Rombach et al. 2022, eq. 2 and 3).

    `codec` and `text` name where the frozen parts come from: "default" (the embedded model), a run, or a model
    folder; `text` may also be "minilm" (the whole all-MiniLM-L6-v2, of whose vocabulary `vocabulary` rows are
    kept) or "none". `labels` adds the class names of the data set. `start` names a model whose denoiser and text
    encoder the run goes on from, and its codec where `codec` names no other; it needs no `denoiser` table.

    Every picture is rendered and encoded `variants` times; captions are dropped with probability `drop`, so
    that guidance has an unconditional answer to compare with (Ho & Salimans 2022).
    """

    kind: Literal["diffusion"] = "diffusion"
    codec: str | None = None
    text: str = "default"
    vocabulary: Positive = 15000
    length: Positive = 24
    labels: bool = False
    label_width: Positive = 128
    start: str | None = None
    schedule: ScheduleSpec = ScheduleSpec(kind="flow")
    prediction: Literal["eps", "x0", "v", "flow"] = "flow"
    law: LawSpec = LawSpec(kind="logit_normal")
    weighting: WeightingSpec = WeightingSpec(kind="uniform")
    drop: Fraction = 0.1
    variants: Positive = 4
    preview_prompts: tuple[str, ...] = ()


class Recipe(Spec):
    """One training run: what to learn from which pictures, with which net, for how long."""

    name: str
    data: DataSpec
    run: RunSpec
    optimizer: OptimizerSpec = OptimizerSpec()
    objective: Annotated[AutoencoderObjective | DiffusionObjective, Field(discriminator="kind")]
    autoencoder: AutoencoderSpec | None = None
    denoiser: UNetSpec | None = None


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
    """Write the resolved recipe as JSON; the file appears whole or not at all."""
    write_text(path, json.dumps(recipe.model_dump(mode="json"), indent=2) + "\n")


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
