"""What steers pictures: a model's denoiser guided by everything that their requests say."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from undiffuse.conditioners.base import ConditionerPart, Fields
from undiffuse.core.conditioning import Conditioning
from undiffuse.diffusion.denoise import Denoise
from undiffuse.diffusion.drive import Cursor
from undiffuse.diffusion.guidance import Others, stacked
from undiffuse.generation.request import Request
from undiffuse.generation.scripts import Embed, directed, scripts_of
from undiffuse.model.latent_diffusion import LatentDiffusion


def steered(
    pictures: Sequence[Request],
    model: LatentDiffusion,
    rows: Sequence[Fields],
    size: tuple[int, int],
    cursor: Cursor,
    before: int = 0,
) -> tuple[Denoise, Conditioning]:
    """The guided denoiser and what steers it; where prompts change on the way it says what they have at the cursor.

    Args:
        pictures: settled requests of one picture each.
        model: whose denoiser it is.
        rows: its readings of them.
        size: height and width of the latent.
        cursor: follows the solver.
        before: steps of a first pass, in a second one.
    """

    def embed(told: Sequence[Fields]) -> Conditioning:
        return model.conditioner(told, size)

    guide = partial(_guided, pictures[0], model)
    scripts = scripts_of(pictures, model, before)
    if scripts is not None:
        return directed(scripts, rows, guide, embed, cursor)
    return guide(rows, [picture.negative for picture in pictures], embed), embed(rows)


def _guided(
    first: Request,
    model: LatentDiffusion,
    rows: Sequence[Fields],
    negatives: Sequence[str],
    embed: Embed,
    others: Others | None = None,
) -> Denoise:
    """The model's denoiser, steered away from the negative prompts; as it is when guidance is 1 or nothing is read."""
    guided = [part for part in model.conditioner.parts if part.guided]
    if not guided or (first.guidance == 1 and not first.scales and others is None):
        return model.denoiser
    stages = []
    silent = list(guided)
    for parts, scale in _stages(first, model, rows):
        without = [model.conditioner.without(row, silent) for row in rows]
        if any("caption" in part.readings for part in silent):
            against = {name: value for part in model.conditioner.parts for name, value in part.against.items()}
            without = [{**row, **against, "caption": negative} for row, negative in zip(without, negatives, strict=True)]
        stages.append((embed(without), scale))
        silent = [part for part in silent if part not in parts]
    return stacked(model.denoiser, stages, first.guidance_rescale, first.guidance_interval, others)


def _stages(request: Request, model: LatentDiffusion, rows: Sequence[Fields]) -> list[tuple[list[ConditionerPart], float]]:
    """Guided parts that speak up together, and how strongly: those with a scale of their own one by one, then the rest.

    A scale for something that no row says costs no stage: it would add nothing.
    """
    said = {name for row in rows for name in row}
    named = [(spec.kind, part) for spec, part in zip(model.spec.conditioners, model.conditioner.parts, strict=True)]
    scaled = {kind for kind, part in named if kind in request.scales and said.intersection(part.readings)}
    alone = [([part], request.scales[kind]) for kind, part in named if part.guided and kind in scaled]
    rest = [part for kind, part in named if part.guided and kind not in scaled]
    return [*alone, (rest, request.guidance)] if rest else alone
