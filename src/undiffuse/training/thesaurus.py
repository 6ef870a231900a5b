"""Words that no caption has, and which pictures they should call to mind: those whose label the text encoder finds like them.

A text encoder has read far more than captions, and knows that a hound is a dog. A net that only ever saw captions hears
"hound" as something between all that it knows; so it is taught what the encoder knows, word by word.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from undiffuse.conditioners.text import TextConditioner
from undiffuse.core.errors import DataError, explain
from undiffuse.core.random import numpy_stream
from undiffuse.data.backgrounds import draw_background
from undiffuse.data.captions import name_thing, write_caption
from undiffuse.data.records import Progress, Row
from undiffuse.data.render import RenderSpec
from undiffuse.networks.text.wordpiece import vocabulary
from undiffuse.training.captions import CaptionCache, cache_captions

FOLDER = "words"
WORD = re.compile(r"[a-z]+")
SHORTEST = 3  # letters
TIMES = 2  # captions of every word
CHOICES = 16  # places drawn for every caption
NEAREST = 8  # labels that a word may stand for
WARMTH = 0.05  # cosines that differ by so much differ by a factor of e in probability
BATCH = 256


@dataclass(frozen=True)
class Thesaurus:
    """Captions of words that no picture was told by, and places in memory that each may call to mind."""

    captions: CaptionCache
    numbers: Tensor  # (U,) of these captions in the cache
    places: Tensor  # (U, CHOICES)

    def to(self, device: torch.device) -> Thesaurus:
        """The same where the nets are."""
        return Thesaurus(self.captions.to(device), self.numbers.to(device), self.places.to(device))


def make_thesaurus(
    text: TextConditioner,
    captions: Iterable[str],
    remembered: Sequence[Row],
    spec: RenderSpec,
    seed: int,
    folder: Path,
    progress: Progress | None = None,
) -> Thesaurus:
    """Captions of all words of the text encoder's vocabulary that none of `captions` has.

    Args:
        text: with the encoder.
        captions: of the data set.
        remembered: the pictures in memory, in order; those with a label count.
        spec: how captions and backgrounds vary.
        seed: names the streams.
        folder: of the run, where states of the captions are kept.
        progress: told (captions done, captions in all, what).

    Raises:
        DataError: when no picture has a label, or captions have every word.
    """
    by_label: dict[str, list[int]] = {}
    for place, row in enumerate(remembered):
        if row.label is not None:
            by_label.setdefault(row.label, []).append(place)
    if not by_label:
        given = "objective.foreign without labels"
        raise DataError(explain(given, "words are matched with labels", "set data.label to a field of the data set"))
    words = unsaid_words(text, captions)
    if not words:
        allowed = "objective.foreign teaches the others"
        raise DataError(explain("captions have every word of the text encoder", allowed, "leave objective.foreign out"))
    labels = sorted(by_label)
    cosines, nearest = likeness(text, words, labels, progress).topk(min(NEAREST, len(labels)), dim=1)  # (W, K)
    shares = torch.softmax(cosines.double() / WARMTH, dim=1).numpy()
    styles = sorted({str(row.fields["style"]) for row in remembered if row.fields.get("style")})
    shelves = _shelves(remembered)
    said, places = [], []
    for word, near, share in zip(words, nearest.tolist(), shares, strict=True):
        for time in range(TIMES):
            rng = numpy_stream("word", seed, word, time)
            style = str(rng.choice(styles)) if styles else ""
            said.append(_caption(word, style, spec, rng))
            chosen = [labels[label] for label in rng.choice(near, size=CHOICES, p=share / share.sum())]
            alike = [shelves.get((label, style)) or by_label[label] for label in chosen]
            places.append([some[int(u * len(some))] for some, u in zip(alike, rng.random(CHOICES), strict=True)])
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    cache = cache_captions(text, said, folder / FOLDER, progress)
    return Thesaurus(cache, torch.tensor([cache.numbers[one] for one in said]), torch.tensor(places))


def unsaid_words(text: TextConditioner, captions: Iterable[str]) -> list[str]:
    """Whole words of the vocabulary that occur in none of these captions."""
    said = {word for caption in captions for word in WORD.findall(caption.lower())}
    return [word for word in vocabulary(text.tokenizer) if len(word) >= SHORTEST and WORD.fullmatch(word) and word not in said]


def likeness(text: TextConditioner, words: Sequence[str], labels: Sequence[str], progress: Progress | None = None) -> Tensor:
    """Cosines (W, L) of the mean states of words and of labels, as sentence encoders compare them."""
    return _directions(text, words, progress) @ _directions(text, labels).T


@torch.no_grad()
def _directions(text: TextConditioner, said: Sequence[str], progress: Progress | None = None) -> Tensor:
    parts = []
    for first in range(0, len(said), BATCH):
        states, mask = text.states(said[first : first + BATCH])
        parts.append(F.normalize(states.sum(1) / mask.sum(1, keepdim=True), dim=1).cpu())
        if progress is not None:
            progress(min(first + BATCH, len(said)), len(said), "words")
    return torch.cat(parts)


def _shelves(rows: Sequence[Row]) -> dict[tuple[str | None, str], list[int]]:
    """Places of rows by their label and their style."""
    found: dict[tuple[str | None, str], list[int]] = {}
    for place, row in enumerate(rows):
        found.setdefault((row.label, str(row.fields.get("style") or "")), []).append(place)
    return found


def _caption(word: str, style: str, spec: RenderSpec, rng: np.random.Generator) -> str:
    how = spec.captions.model_copy(update={"unstyled": 0.0})
    phrase = draw_background(spec.backgrounds, 1, rng).phrase
    return write_caption(name_thing(word, [], how, rng), style, phrase, how, rng)
