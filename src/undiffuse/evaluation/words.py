"""Are words understood beyond captions? Names that no caption has, which of two things is where, and how many there are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from undiffuse.core.errors import DataError, explain
from undiffuse.core.random import numpy_stream, stream_seed
from undiffuse.data.captions import CaptionSpec
from undiffuse.data.dataset import Pictures
from undiffuse.data.records import BESIDE, STACKED, Progress, Row
from undiffuse.data.render import RenderSpec, render
from undiffuse.evaluation.counting import NUMBERS, countings, rightly_counted
from undiffuse.evaluation.features import FeatureExtractor, Skip
from undiffuse.evaluation.prompts import WHITE, Kind, Pair, Prompt, ask_for, pair_of
from undiffuse.evaluation.reconstruction import RoundTrip
from undiffuse.evaluation.references import References, concept_ranks, read_references
from undiffuse.evaluation.report import Figure, Report, proportion
from undiffuse.evaluation.retrieval import Draw, drawn_by, top

SYNONYMS = "synonyms.txt"  # beside this file: "hound = dog", a line each
FEW, MANY = 1, 10
WORD = re.compile(r"[a-z]+")
SIDES = re.compile(r" on the left and | to the left of | above | below | at the top and ")
LAYOUTS: tuple[Kind, ...] = (BESIDE, STACKED)
TWO_ON_WHITE = CaptionSpec(keywords=0, unstyled=0, unsaid_white=0)


@dataclass(frozen=True)
class WordsReport(Report):
    """How far words are understood that no picture was told by; a thesaurus may read them as others.

    `synonym_top1`, `synonym_top10`: how often the concept that another word stands for is the first, or among the first
    ten, of all concepts of the data set. The words, some two hundred, are in `synonyms.txt`; of those that a caption
    or keyword of the data set has, none is asked for. Concepts are ranked as for `evaluate prompts`.

    `left_right`, `above_below`: two things of one style are asked for, one beside or above the other, in the words of
    captions. Each half is compared with all real pictures of both; right is a picture whose halves are nearer, taken
    together, to what was asked for there than to the two the other way round. By chance that is half of them.

    `left_right_ceiling`, `above_below_ceiling`: the same of real pictures put together as they are in training, after
    the autoencoder.

    `one_or_two`: one thing is asked for, or two of it. Right is a picture that is nearer to a real one of as many than to
    a real one of the other number; by chance that is half of them. `one_or_two_ceiling`: the same of other real pictures, after
    the autoencoder.
    """

    synonym_top1: Figure
    synonym_top10: Figure
    left_right: Figure
    above_below: Figure
    left_right_ceiling: Figure
    above_below_ceiling: Figure
    one_or_two: Figure
    one_or_two_ceiling: Figure


class TwoAsked(NamedTuple):
    """What is asked for, the thing that is right or below, and how training shows the two (3, H, W)."""

    prompt: Prompt
    second: str
    pixels: Tensor


def evaluate_words(
    pictures: Pictures,
    draw: Draw,
    round_trip: RoundTrip,
    extractor: FeatureExtractor,
    *,
    size: int,
    count: int = 200,
    seed: int = 0,
    batch: int = 8,
    progress: Progress | None = None,
    skip: Skip | None = None,
) -> WordsReport:
    """Have synonyms drawn, `count` pairs of things side by side, as many one above the other, and as many of one or two.

    Args:
        pictures: both splits of a data set whose rows tell concept and style, with cut-outs to put together.
        draw: the model that is measured.
        round_trip: its autoencoder, there and back.
        extractor: gives the features.
        size: side in pixels of the drawn pictures, at which real ones are drawn too.
        count: prompts of each kind but synonyms; fewer when the data set has fewer.
        seed: of the choice of what is asked for, and of the drawing.
        batch: pictures at once.
        progress: told after every batch.
        skip: told of real pictures that cannot be read; when None such a picture is an error.

    Raises:
        DataError: when the data set has no concept that a synonym stands for, no two cut-outs to put together, or
            none whose name has a plural.
    """
    tell = progress or (lambda done, total, what: None)
    synonyms = synonym_prompts(pictures.rows, read_synonyms(), seed)
    arranged = arrangements(pictures, size, count, seed)
    counted = countings(pictures, size, count, seed)
    references = read_references(pictures, extractor, size=size, batch=batch, progress=tell, skip=skip)

    features = [extractor(pixels) for _, pixels in drawn_by(draw, synonyms, batch, tell, "drawing synonyms")]
    ranks = concept_ranks(references.cosines(torch.cat(features)), references, [one.pair.concept for one in synonyms])
    hits: dict[str, list[bool]] = {}
    ceilings: dict[str, list[bool]] = {}
    for layout, some in arranged.items():
        asked = [one.prompt for one in some]
        pictures_of = torch.cat([pixels for _, pixels in drawn_by(draw, asked, batch, tell, f"drawing {layout}")])
        real = torch.cat([_there_and_back(round_trip, part) for part in torch.stack([one.pixels for one in some]).split(batch)])
        hits[layout] = _right_way_round(pictures_of, some, references, extractor)
        ceilings[layout] = _right_way_round(real, some, references, extractor)
    drawn = [pixels for _, pixels in drawn_by(draw, [one.prompt for one in counted], batch, tell, "drawing one or two")]
    others = torch.stack([one.pixels[NUMBERS.index(one.number), 1] for one in counted])
    again = [_there_and_back(round_trip, part) for part in others.split(batch)]
    return WordsReport(
        synonym_top1=top(ranks, FEW),
        synonym_top10=top(ranks, MANY),
        left_right=proportion(hits[BESIDE]),
        above_below=proportion(hits[STACKED]),
        left_right_ceiling=proportion(ceilings[BESIDE]),
        above_below_ceiling=proportion(ceilings[STACKED]),
        one_or_two=proportion(rightly_counted(torch.cat(drawn), counted, references, extractor)),
        one_or_two_ceiling=proportion(rightly_counted(torch.cat(again), counted, references, extractor)),
    )


def read_synonyms() -> dict[str, str]:
    """Words of everyday English, and the concept of the emoji data set that each stands for."""
    lines = files("undiffuse.evaluation").joinpath(SYNONYMS).read_text(encoding="utf-8").splitlines()
    return dict(line.split(" = ") for line in lines)


def synonym_prompts(rows: Iterable[Row], synonyms: Mapping[str, str], seed: int) -> list[Prompt]:
    """A prompt for every synonym of a concept of these rows that none of them mentions, in a style that the concept has.

    Raises:
        DataError: when there is none.
    """
    styles: dict[str, list[str]] = {}
    said: set[str] = set()
    for row in rows:
        keywords = row.fields.get("keywords")
        for text in (row.caption, row.fields.get("concept"), *(keywords if isinstance(keywords, list) else ())):
            said.update(WORD.findall(str(text or "").lower()))
        pair = pair_of(row)
        if pair is not None and row.split == "train":
            styles.setdefault(pair.concept, []).append(pair.style)
    rng = numpy_stream("evaluate", "synonym", seed)
    prompts = []
    for word, concept in synonyms.items():
        draw = float(rng.random())  # drawn for every word, so that one more or less changes no other
        if concept in styles and said.isdisjoint(WORD.findall(word)):
            of_concept = sorted(set(styles[concept]))
            pair = Pair(concept, of_concept[int(draw * len(of_concept))])
            prompts.append(Prompt(ask_for(word, pair.style), stream_seed("evaluate", word, seed), pair, WHITE, "synonym"))
    if not prompts:
        given = "no synonym stands for a concept of this data set"
        raise DataError(explain(given, "they are names of things that emoji show", "'undiffuse data build emoji' makes a set"))
    return prompts


def arrangements(pictures: Pictures, size: int, count: int, seed: int) -> dict[Kind, list[TwoAsked]]:
    """Up to `count` pairs side by side and as many one above the other, on white, with captions that say which is where.

    Raises:
        DataError: when there is none of either.
    """
    spec = RenderSpec(size=size, pair=1, backgrounds={WHITE: 1}, captions=TWO_ON_WHITE)
    found: dict[Kind, list[TwoAsked]] = {layout: [] for layout in LAYOUTS}
    for index in numpy_stream("evaluate", "arrangement", seed).permutation(len(pictures.rows)):
        if min(map(len, found.values())) >= count:
            break
        if pair_of(pictures.rows[index]) is None:
            continue
        example = render(pictures, int(index), spec, numpy_stream("evaluate", "arrangement", seed, int(index)))
        kind, second = example.fields["layout"], example.fields.get("second")
        if second is None or len(found[kind]) >= count or not SIDES.search(example.caption):
            continue
        pair = Pair(str(example.fields["concept"]), str(example.fields.get("style", "")))
        prompt = Prompt(example.caption, stream_seed("evaluate", kind, seed, len(found[kind])), pair, WHITE, kind)
        found[kind].append(TwoAsked(prompt, str(second), example.pixels))
    lacking = [layout for layout, some in found.items() if not some]
    if lacking:
        allowed = "cut-outs of different concepts in one style are needed"
        remedy = "the set of 'undiffuse data build emoji' has them"
        raise DataError(explain(f"no two pictures can be put {lacking[0]}", allowed, remedy))
    return found


def parts_of(pixels: Tensor, layout: str) -> tuple[Tensor, Tensor]:
    """The left and right, or upper and lower, part of pictures (B, 3, S, S): squares of half the side, at full size again."""
    side = pixels.shape[-1]
    half, middle = side // 2, slice(side // 4, side // 4 + side // 2)
    ends = (slice(0, half), slice(half, 2 * half))
    cuts = [pixels[..., middle, end] if layout == BESIDE else pixels[..., end, middle] for end in ends]
    first, second = (F.interpolate(cut, (side, side), mode="bicubic", antialias=True).clamp(-1, 1) for cut in cuts)
    return first, second


def _right_way_round(
    pixels: Tensor, asked: Sequence[TwoAsked], references: References, extractor: FeatureExtractor
) -> list[bool]:
    """Whether the parts of each picture are nearer to the things asked for there than to the two exchanged."""
    first, second = (references.cosines(extractor(part)) for part in parts_of(pixels, asked[0].prompt.kind))
    concepts = references.concepts
    right = []
    for number, (prompt, other, _) in enumerate(asked):
        a, b = ([place for place, name in enumerate(concepts) if name == wanted] for wanted in (prompt.pair.concept, other))
        straight = first[number, a].max() + second[number, b].max()
        right.append(bool(straight > first[number, b].max() + second[number, a].max()))
    return right


@torch.no_grad()
def _there_and_back(round_trip: RoundTrip, pixels: Tensor) -> Tensor:
    return round_trip(pixels).float().cpu().clamp(-1, 1)
