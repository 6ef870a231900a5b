"""One or two? Whether pictures of one thing, and of two of it, show as many as were asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from undiffuse.core.errors import DataError, explain
from undiffuse.core.random import numpy_stream, stream_seed
from undiffuse.data.dataset import Pictures
from undiffuse.data.records import BESIDE
from undiffuse.data.render import RenderSpec, render
from undiffuse.data.wording import plural, with_article
from undiffuse.evaluation.features import FeatureExtractor
from undiffuse.evaluation.prompts import WHITE, Prompt, ask_for, pair_of
from undiffuse.evaluation.references import Directions

NUMBERS = (1, 2)


class Counting(NamedTuple):
    """What is asked for, how many of it, and two real pictures of every number, (2, 2, 3, H, W), number by number."""

    prompt: Prompt
    number: int
    pixels: Tensor


def countings(pictures: Pictures, size: int, count: int, seed: int) -> list[Counting]:
    """Up to `count` cut-outs whose name has a plural, on white; one is asked of every other, and two of the rest.

    Raises:
        DataError: when there is none.
    """
    specs = [RenderSpec(size=size, pair=float(number > 1), twins=1, backgrounds={WHITE: 1}) for number in NUMBERS]
    found: list[Counting] = []
    for index in numpy_stream("evaluate", "count", seed).permutation(len(pictures.rows)).tolist():
        if len(found) >= count:
            break
        pair = pair_of(pictures.rows[index])
        if pair is None or plural(pair.concept) == pair.concept:
            continue
        examples = [
            [render(pictures, index, spec, numpy_stream("evaluate", "count", seed, index, time)) for time in range(2)]
            for spec in specs
        ]
        told = examples[-1][0].fields
        if told["layout"] != BESIDE or (told["concept"], told.get("style")) != pair:
            continue  # no cut-out, or the next one in the place of a picture that cannot be read
        number = NUMBERS[len(found) % len(NUMBERS)]
        name = with_article(pair.concept) if number == 1 else f"two {plural(pair.concept)}"
        prompt = Prompt(ask_for(name, pair.style), stream_seed("evaluate", "count", seed, index), pair, WHITE, "count")
        pixels = torch.stack([torch.stack([one.pixels for one in some]) for some in examples])
        found.append(Counting(prompt, number, pixels))
    if not found:
        given = "no picture of this data set is a cut-out whose name has a plural"
        raise DataError(explain(given, "one and two are told apart by such", "'undiffuse data build emoji' makes a set"))
    return found


def rightly_counted(
    pixels: Tensor, asked: Sequence[Counting], directions: Directions, extractor: FeatureExtractor
) -> list[bool]:
    """Whether each picture (B, 3, H, W) is nearer to the first real one of as many as were asked for than to the other."""
    own = directions.towards(extractor(pixels))  # (B, D)
    real = torch.stack([directions.towards(extractor(one.pixels[:, 0])) for one in asked])  # (B, 2, D)
    nearest = (real @ own[..., None]).flatten(1).argmax(1)
    return [NUMBERS[place] == one.number for place, one in zip(nearest.tolist(), asked, strict=True)]
