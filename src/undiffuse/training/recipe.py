"""`Recipe`: everything a training run is made from, read from TOML, written resolved into the run's folder."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from undiffuse.core.errors import SpecError, UsageError, explain
from undiffuse.core.spec import Spec
from undiffuse.data.render import RenderSpec
from undiffuse.diffusion.laws import LawSpec
from undiffuse.diffusion.schedule import ScheduleSpec
from undiffuse.diffusion.weighting import WeightingSpec
from undiffuse.model.spec import AutoencoderSpec, UNetSpec

Positive = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class DataSpec(Spec):
    """Which pictures, and how they are shown to the net."""

    path: str
    render: RenderSpec = RenderSpec()
    memory_gib: float = 4.0


class OptimizerSpec(Spec):
    """AdamW with warm-up and decay; `rate` is the peak rate for the whole batch, never rescaled behind your back.

    `decay` starts after the share `hold` of all steps and ends at 0 with the last step.
    """

    kind: Literal["adamw"] = "adamw"
    rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.01
    clip: float = 1.0
    warmup: int = 200
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
    preview_every: int = 500


class AdversarialSpec(Spec):
    """A patch discriminator (Isola et al. 2017) that joins at step `start` and is ramped in over `ramp` steps."""

    start: int
    ramp: Positive = 1000
    weight: float = 0.5
    width: Positive = 64
    layers: Positive = 3
    rate: float = 2e-4


class PerceptualSpec(Spec):
    """A distance between the features that a frozen backbone sees."""

    backbone: Literal["efficientnet_lite0"] = "efficientnet_lite0"
    weight: float = 0.5


class AutoencoderObjective(Spec):
    """Stage one: reconstruction + KL, optionally perceptual and adversarial terms (Rombach et al. 2022, eq. 25)."""

    kind: Literal["autoencoder"] = "autoencoder"
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
    kept) or "none". `labels` adds the class names of the data set. `start` names a model whose denoiser, codec
    and text encoder the run goes on from; it needs no `denoiser` table.

    Every picture is rendered and encoded `variants` times; captions are dropped with probability `drop`, so
    that guidance has an unconditional answer to compare with (Ho & Salimans 2022).
    """

    kind: Literal["diffusion"] = "diffusion"
    codec: str = "default"
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
        raise UsageError(explain(f"recipe {str(path)!r} is not there", "a TOML file is needed", "see recipes/ for some to start from"))
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SpecError(explain(f"{path} is not valid TOML: {error}", "see https://toml.io")) from None
    for override in overrides:
        _apply(raw, override)
    return Recipe.parse(raw, where=str(path))


def _apply(raw: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    names = [name.strip() for name in key.split(".")]
    if not equals or not all(names):
        raise UsageError(explain(f"--set {override!r}", "the form is a.b=c", "for instance --set optimizer.rate=1e-4"))
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    node = raw
    for name in names[:-1]:
        node = node.setdefault(name, {})
        if not isinstance(node, dict):
            raise UsageError(explain(f"--set {override!r}", f"{name!r} is a value, not a table"))
    node[names[-1]] = value


def write_recipe(recipe: Recipe, path: Path) -> None:
    """Write the resolved recipe as JSON."""
    path.write_text(json.dumps(recipe.model_dump(mode="json"), indent=2) + "\n", encoding="utf-8")


def read_recipe(path: Path) -> Recipe:
    """Read what `write_recipe` wrote.

    Raises:
        UsageError: when the file is missing, which means the folder is no run.
        SpecError: when a value is wrong.
    """
    if not path.is_file():
        raise UsageError(explain(f"{path.parent} is not a run", "a folder made by 'undiffuse train' is needed"))
    return Recipe.parse(json.loads(path.read_text(encoding="utf-8")), where=str(path))
