"""Does a model draw what the words say? Retrieval of the concept, background colours, nearness to training pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from undiffuse.data.backgrounds import COLOURS
from undiffuse.data.dataset import Pictures
from undiffuse.data.records import Progress
from undiffuse.evaluation.background import background_names
from undiffuse.evaluation.features import FeatureExtractor, Skip, batches_on_white
from undiffuse.evaluation.prompts import Pair, Prompt, coloured_prompts, pair_of, seen_and_held_out, white_prompts
from undiffuse.evaluation.reconstruction import RoundTrip
from undiffuse.evaluation.references import References, concept_ranks, nearer_than_variants, nearest_trained, read_references
from undiffuse.evaluation.report import Figure, Report, mean, proportion

Draw = Callable[[Sequence[Prompt]], Tensor]
"""Draws one picture a prompt, (B, 3, H, W) in [-1, 1] on the CPU; H = W is the size of the references."""

TOP = 5


@dataclass(frozen=True)
class PromptReport(Report):
    """How well drawn pictures show what was asked for.

    Pictures are compared by the cosine of their features about the mean of all real pictures. The score of
    a concept is the highest cosine to any real picture of it, in either split, drawn on white; concepts are
    ranked by score among all concepts of the data set, and ties count against the model.

    `seen_top1`, `seen_top5`: how often the concept of the prompt is the first, or among the first five, when
    the pair of concept and style is in the training split; `held_out_top1`, `held_out_top5`: when it is not.

    `background_accuracy`: how often the named colour nearest to the picture's border is the one that the
    prompt names, over prompts of their own for both kinds of pair.

    `nearest_train`: the mean cosine distance from a drawn picture, seen pairs and held-out ones together, to
    the nearest training picture: 0 for copies, about 1 for unrelated pictures. `nearer_than_variants`: how often a drawn
    picture is nearer to it than that picture's nearest variant is, the same concept in another style. Real pictures of
    seen pairs always are, so a model that draws exactly what it was taught comes near to 1 with those.

    `ceiling_top5`: the top-5 figure of the real pictures of the same held-out pairs, passed through the
    autoencoder. They are what a perfect denoiser would draw, and they are ranked by the same references as
    the drawn ones, their originals included: without those, drawn pictures could be scored by a picture that
    the ceiling is denied, and pass it. What is missing to 1 is lost by the autoencoder and the features.
    """

    seen_top1: Figure
    seen_top5: Figure
    held_out_top1: Figure
    held_out_top5: Figure
    background_accuracy: Figure
    nearest_train: Figure
    nearer_than_variants: Figure
    ceiling_top5: Figure


def evaluate_prompts(
    pictures: Pictures,
    draw: Draw,
    round_trip: RoundTrip,
    extractor: FeatureExtractor,
    *,
    size: int,
    count: int = 500,
    seed: int = 0,
    batch: int = 8,
    progress: Progress | None = None,
    skip: Skip | None = None,
) -> PromptReport:
    """Have `count` prompts drawn for each of seen pairs, held-out pairs and backgrounds, and measure the pictures.

    Args:
        pictures: both splits of a data set whose rows tell concept and style.
        draw: the model that is measured.
        round_trip: its autoencoder, there and back.
        extractor: gives the features.
        size: side in pixels of the drawn pictures, at which real ones are drawn too.
        count: prompts of each kind; fewer when the data set has fewer pairs of that kind.
        seed: of the choice of prompts and of the drawing.
        batch: pictures at once; it does not change which pictures are drawn.
        progress: told after every batch.
        skip: told of real pictures that cannot be read; when None such a picture is an error.

    Raises:
        DataError: when rows tell no concept and style, a split has no pair of its own, or pictures cannot be read.
    """
    tell = progress or (lambda done, total, what: None)
    seen_and_held_out(pictures.rows)  # refuses at once what would fail after minutes
    references = read_references(pictures, extractor, size=size, batch=batch, progress=tell, skip=skip)
    seen, held_out = seen_and_held_out(references.rows)
    for_seen = white_prompts(seen, count, seed, "seen")
    for_held_out = white_prompts(held_out, count, seed, "held out")
    coloured = coloured_prompts(sorted(seen + held_out), count, seed)

    on_white = [*for_seen, *for_held_out]
    drawn = [extractor(pixels) for _, pixels in drawn_by(draw, on_white, batch, tell, "drawing on white")]
    cosines = references.cosines(torch.cat(drawn))
    ranks = concept_ranks(cosines, references, [prompt.pair.concept for prompt in on_white])
    seen_ranks, held_out_ranks = ranks[: len(for_seen)], ranks[len(for_seen) :]
    right_colour: list[bool] = []
    for some, pixels in drawn_by(draw, coloured, batch, tell, "drawing on colours"):
        names = background_names(pixels, COLOURS)
        right_colour += [prompt.background == name for prompt, name in zip(some, names, strict=True)]
    asked = [prompt.pair for prompt in for_held_out]
    ceiling = _round_trip_ranks(pictures, asked, references, round_trip, extractor, size, batch, tell)
    return PromptReport(
        seen_top1=top(seen_ranks, 1),
        seen_top5=top(seen_ranks, TOP),
        held_out_top1=top(held_out_ranks, 1),
        held_out_top5=top(held_out_ranks, TOP),
        background_accuracy=proportion(right_colour),
        nearest_train=mean(nearest_trained(cosines, references)),
        nearer_than_variants=proportion(nearer_than_variants(cosines, references)),
        ceiling_top5=top(ceiling, TOP),
    )


def top(ranks: Sequence[int], places: int) -> Figure:
    """The share of ranks, counted from 0, that lie in the first `places`."""
    return proportion([rank < places for rank in ranks])


def drawn_by(
    draw: Draw, prompts: Sequence[Prompt], batch: int, tell: Progress, what: str
) -> Iterator[tuple[Sequence[Prompt], Tensor]]:
    """Some prompts after the other with their pictures, (B, 3, H, W); told after each batch."""
    for start in range(0, len(prompts), batch):
        some = prompts[start : start + batch]
        pixels = draw(some)
        tell(start + len(some), len(prompts), what)
        yield some, pixels


def _round_trip_ranks(
    pictures: Pictures,
    pairs: Sequence[Pair],
    references: References,
    round_trip: RoundTrip,
    extractor: FeatureExtractor,
    size: int,
    batch: int,
    tell: Progress,
) -> list[int]:
    """Ranks of the right concept for the first real picture of each pair, after the autoencoder."""
    first = {pair_of(row): index for row, index in zip(reversed(references.rows), reversed(references.indices), strict=True)}
    indices = [first[pair] for pair in pairs]
    features: list[Tensor] = []
    done = 0
    for some, pixels in batches_on_white(pictures, indices, size, batch):
        with torch.no_grad():
            features.append(extractor(round_trip(pixels).float().cpu().clamp(-1, 1)))
        done += len(some)
        tell(done, len(indices), "round trips")
    return concept_ranks(references.cosines(torch.cat(features)), references, [pair.concept for pair in pairs])
