"""What pictures are told at every step: prompts that change on the way, and several prompts at once.

Both are written in A1111's grammar and read by CLIP alone; every other model takes prompts as they stand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from torch import Tensor

from undiffuse.conditioners.base import Fields
from undiffuse.conditioners.clip import A1111, CLIPConditioner
from undiffuse.conditioners.prompts.composition import compose
from undiffuse.conditioners.prompts.schedule import Schedule, schedule, text_at
from undiffuse.core.conditioning import Conditioning
from undiffuse.core.errors import SpecError, explain
from undiffuse.diffusion.denoise import Denoise
from undiffuse.diffusion.drive import Cursor
from undiffuse.diffusion.guidance import Others
from undiffuse.diffusion.level import Level
from undiffuse.generation.lora_tags import spoken
from undiffuse.generation.request import Request
from undiffuse.model.latent_diffusion import LatentDiffusion

BLANK = " "  # a moment without words is an empty prompt, encoded as such; it is not the silence that XL was trained with


class Words(NamedTuple):
    """What a picture is told in one step: several prompts, and what it is steered away from."""

    prompts: tuple[str, ...]
    negative: str


@dataclass(frozen=True)
class Script:
    """The prompts of one picture over all steps, with a weight each, and the negative prompt, which has none."""

    prompts: tuple[Schedule, ...]
    weights: tuple[float, ...]
    negative: Schedule

    @classmethod
    def of(cls, request: Request, before: int = 0) -> Script:
        """What a request says in A1111's grammar, in a second pass with the steps of the first one `before` it."""
        parts = compose(request.prompt)
        way = (request.steps, before)
        prompts = tuple(_spoken(part.text, *way, whole=len(parts) == 1) for part in parts)
        return cls(prompts, tuple(part.weight for part in parts), _spoken(request.negative, *way))

    @classmethod
    def plain(cls, request: Request) -> Script:
        """The prompts of a request as they stand."""
        return cls((((request.steps, request.prompt),),), (1.0,), ((request.steps, request.negative),))

    def at(self, index: int) -> Words:
        """What is said in a step, counted from 0."""
        return Words(tuple(text_at(texts, index) for texts in self.prompts), text_at(self.negative, index))


Embed = Callable[[Sequence[Fields]], Conditioning]
"""The conditioning of rows of readings."""
Guide = Callable[[Sequence[Fields], Sequence[str], Embed, Others | None], Denoise]
"""A guided denoiser for pictures with these readings and negative prompts, and with what is to be shown beside."""


def scripts_of(pictures: Sequence[Request], model: LatentDiffusion, before: int = 0) -> list[Script] | None:
    """A script for each picture; None when none of them needs any. A second pass has the steps of the first one `before` it."""
    if not any(isinstance(part, CLIPConditioner) for part in model.conditioner.parts):
        return None
    pictures = [one.replace(prompt=spoken(one)) for one in pictures]
    a1111 = [one.context.get("grammar", A1111) == A1111 for one in pictures]
    scripts = [Script.of(one, before) if told else Script.plain(one) for one, told in zip(pictures, a1111, strict=True)]
    return None if scripts == [Script.plain(one) for one in pictures] else scripts


def check_script(request: Request, model: LatentDiffusion) -> None:
    """Refuse several prompts where guidance has other things to add after the words.

    Raises:
        SpecError: when there is an AND, and `scales` makes words a stage of their own before another one.
    """
    kinds = {spec.kind: part for spec, part in zip(model.spec.conditioners, model.conditioner.parts, strict=True)}
    words = {kind for kind, part in kinds.items() if isinstance(part, CLIPConditioner)}
    beside = {kind for kind, part in kinds.items() if part.guided} - words
    several = any(len(script.prompts) > 1 for script in scripts_of([request], model) or ())
    if several and beside and words & set(request.scales):
        given = f"several prompts (AND) with a scale for {' and '.join(sorted(words))} beside {', '.join(sorted(beside))}"
        raise SpecError(explain(given, "their weights are shares of `guidance`", f"give {', '.join(sorted(beside))} a scale"))


def directed(
    scripts: Sequence[Script], rows: Sequence[Fields], guide: Guide, embed: Embed, cursor: Cursor
) -> tuple[Denoise, Conditioning]:
    """A denoiser that tells every picture what its script has in the step at the cursor, and the conditioning of the first.

    The denoiser goes by its scripts, whatever conditioning it is called with. Each text is embedded once, and each
    combination of texts is put together once.

    Args:
        scripts: one a picture.
        rows: readings of the pictures.
        guide: makes the guided denoiser of a combination.
        embed: what it makes conditionings with.
        cursor: follows the solver.
    """
    known: dict[tuple[object, ...], Conditioning] = {}
    first = tuple(script.weights[0] for script in scripts)
    beside = [(owner, part) for owner, script in enumerate(scripts) for part in range(1, len(script.prompts))]
    owners = tuple(owner for owner, _ in beside)
    weights = tuple(scripts[owner].weights[part] for owner, part in beside)

    def recall(told: Sequence[Fields]) -> Conditioning:
        # A row is known by its caption and by what else stands in it: its readings are the same objects in every step.
        keys = [tuple((name, value if name == "caption" else id(value)) for name, value in row.items()) for row in told]
        for key, row in zip(keys, told, strict=True):
            if key not in known:
                known[key] = embed([row])
        return Conditioning.cat([known[key] for key in keys])

    @cache
    def scene(words: tuple[Words, ...]) -> tuple[Denoise, Conditioning]:
        told = [{**row, "caption": said.prompts[0]} for row, said in zip(rows, words, strict=True)]
        more = [{**rows[owner], "caption": words[owner].prompts[part]} for owner, part in beside]
        others = Others(recall(more), owners, weights, first) if beside else None
        return guide(told, [said.negative for said in words], recall, others), recall(told)

    def now() -> tuple[Denoise, Conditioning]:
        return scene(tuple(script.at(cursor.index) for script in scripts))

    def denoise(x: Tensor, level: Level, cond: Conditioning) -> Tensor:
        guided, own = now()
        return guided(x, level, own)

    return denoise, now()[1]


def _spoken(prompt: str, steps: int, before: int, whole: bool = True) -> Schedule:
    """The texts of a prompt; only one that is said from beginning to end may be silence."""
    texts = schedule(prompt, steps, before)
    return texts if whole and texts == ((steps, prompt),) else tuple((last, text or BLANK) for last, text in texts)
