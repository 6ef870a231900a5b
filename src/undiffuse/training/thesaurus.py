"""Words that no caption has, and which pictures they should call to mind: those whose label they are like.

A net that only ever saw captions hears "hound" as something between all that it knows. A text encoder has read far more
and knows that a hound is like a dog; a lexicon says that it is one. So the net is taught what these know, word by word.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
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
from undiffuse.data.lexicon import Lexicon
from undiffuse.data.records import Progress, Row
from undiffuse.data.render import RenderSpec
from undiffuse.data.wording import plural
from undiffuse.networks.text.wordpiece import vocabulary
from undiffuse.training.captions import CaptionCache, cache_captions, digest_of, read_kept, write_kept

FOLDER, FILE = "words", "likeness.safetensors"
WORD = re.compile(r"[a-z]+")
SHORTEST = 3  # letters
TIMES = 2  # captions of every word
CHOICES = 16  # places drawn for every caption
NEAREST = 8  # labels that a word may stand for
LEAST = 0.4  # of likeness to some label, for a noun of a lexicon to be taught
WARMTH = 0.04  # likenesses that differ by so much differ by a factor of e in probability
SENSES = 3  # of a word
STEPS = 4  # from a sense to what it is a kind of
KINSHIP = 0.3  # that a word is a label's namesake counts as much as so much more cosine; every step away halves it
BATCH = 256
LONGEST = 48  # tokens of a definition


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
    lexicon: Lexicon | None = None,
    progress: Progress | None = None,
) -> Thesaurus:
    """Captions of words that none of `captions` has: nouns of the lexicon that are like some label, and more than one of
    every label; or, without a lexicon, all words of the text encoder's vocabulary.

    Args:
        text: with the encoder.
        captions: of the data set.
        remembered: the pictures in memory, in order; those with a label count.
        spec: how captions and backgrounds vary.
        seed: names the streams.
        folder: of the run, where likenesses and states of the captions are kept.
        lexicon: says what words mean.
        progress: told (done, in all, what).

    Raises:
        DataError: when no picture has a label, or no word is left that is like one.
    """
    by_label: dict[str, list[int]] = {}
    for place, row in enumerate(remembered):
        if row.label is not None:
            by_label.setdefault(row.label, []).append(place)
    if not by_label:
        given = "objective.foreign without labels"
        raise DataError(explain(given, "words are matched with labels", "set data.label to a field of the data set"))
    labels = sorted(by_label)
    taken = {word for caption in captions for word in WORD.findall(caption.lower())}
    words = [word for word in (_nouns(lexicon) if lexicon else vocabulary(text.tokenizer)) if _is_new(word, taken)]
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    meant = _meanings(text, words, labels, lexicon, folder / FOLDER / FILE, progress) if words else {}
    if lexicon is not None:
        meant |= {many: {label: 1.0} for label in labels if _is_new(many := plural(label), taken)}
    if not meant:
        given = f"captions have every word of the {'lexicon that is like a label' if lexicon else 'text encoder'}"
        raise DataError(explain(given, "objective.foreign teaches the others", "leave objective.foreign out"))
    styles = sorted({str(row.fields["style"]) for row in remembered if row.fields.get("style")})
    shelves = _shelves(remembered)
    said, places = [], []
    for word, likely in meant.items():
        share = np.array(list(likely.values()), np.float64)
        for time in range(TIMES):
            rng = numpy_stream("word", seed, word, time)
            style = str(rng.choice(styles)) if styles else ""
            said.append(_caption(word, style, spec, rng))
            chosen = rng.choice(list(likely), size=CHOICES, p=share / share.sum())
            alike = [shelves.get((label, style)) or by_label[label] for label in map(str, chosen)]
            places.append([some[int(u * len(some))] for some, u in zip(alike, rng.random(CHOICES), strict=True)])
    cache = cache_captions(text, said, folder / FOLDER, progress)
    return Thesaurus(cache, torch.tensor([cache.numbers[one] for one in said]), torch.tensor(places))


def likeness(
    text: TextConditioner,
    words: Sequence[str],
    labels: Sequence[str],
    lexicon: Lexicon | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """How much words are like labels, (W, L): the cosine of their mean states, as sentence encoders compare them.

    With a lexicon it is the mean of that and of the cosine of the sense that is nearest, as its names and its
    definition tell it; and more where a label names what the word is a kind of, the nearer the more.
    """
    meant = _directions(text, labels)
    found = _directions(text, words, progress) @ meant.T  # (W, L)
    if lexicon is None:
        return found
    senses = [lexicon.depicted(word, SENSES) for word in words]
    told = [_tell(word, number, lexicon) for word, some in zip(words, senses, strict=True) for number in some]
    owners = torch.tensor([place for place, some in enumerate(senses) for _ in some], dtype=torch.long)
    of_sense = _directions(text, told, progress) @ meant.T  # (S, L)
    index = owners[:, None].expand(-1, len(labels))
    found = (found + found.scatter_reduce(0, index, of_sense, "amax", include_self=False)) / 2
    named: dict[str, list[int]] = {}
    for place, label in enumerate(labels):
        for number in lexicon.depicted(label, SENSES)[:1]:
            named.setdefault(number, []).append(place)
    for row, some in enumerate(senses):
        kinship = kin(some, named, lexicon)
        found[row, list(kinship)] += KINSHIP * torch.tensor(list(kinship.values()))
    return found


def kin(senses: Sequence[str], named: Mapping[str, Sequence[int]], lexicon: Lexicon) -> dict[int, float]:
    """By label, half for every step that one of these senses is away from what that label names (`named`), as a kind of it."""
    found: dict[int, float] = {}
    for number in senses:
        for broader, steps in lexicon.broader(number, STEPS).items():
            for label in named.get(broader, ()):
                found[label] = max(found.get(label, 0.0), 0.5**steps)
    return found


def _meanings(
    text: TextConditioner,
    words: Sequence[str],
    labels: Sequence[str],
    lexicon: Lexicon | None,
    path: Path,
    progress: Progress | None,
) -> dict[str, dict[str, float]]:
    """By word the labels that it is most like, and how likely it stands for each; kept, for it takes minutes.

    Words of a lexicon that are like no label are left out.
    """
    senses = [] if lexicon is None else [_tell(word, one, lexicon) for word in words for one in lexicon.depicted(word, SENSES)]
    digest = digest_of(text, [*words, "", *labels, "", *senses])
    kept = read_kept(path, digest)
    if kept is None:
        found = likeness(text, words, labels, lexicon, progress).topk(min(NEAREST, len(labels)), dim=1)
        kept = {"likeness": found.values.float(), "labels": found.indices}
        write_kept(path, digest, kept)
    shares = torch.softmax(kept["likeness"].double() / WARMTH, dim=1)
    telling = kept["likeness"][:, 0] >= (-1 if lexicon is None else LEAST)
    rows = zip(words, kept["labels"].tolist(), shares.tolist(), telling.tolist(), strict=True)
    return {word: {labels[int(at)]: p for at, p in zip(near, share, strict=True)} for word, near, share, told in rows if told}


def _nouns(lexicon: Lexicon) -> list[str]:
    return [word for word in lexicon.words if lexicon.depicted(word, 1)]


def _is_new(word: str, taken: set[str]) -> bool:
    """Whether it is a single word, and none that is taken."""
    return len(word) >= SHORTEST and bool(WORD.fullmatch(word)) and word not in taken


def _tell(word: str, number: str, lexicon: Lexicon) -> str:
    """A sense in words: "hound, hound dog, hunting dog: any of several breeds of dog used for hunting ..."."""
    sense = lexicon.senses[number]
    others = [name for name in sense.names if name != word]
    kinds = [lexicon.senses[kind].names[0] for kind in sense.kinds]
    return f"{', '.join([word, *others[:2], *kinds[:2]])}: {sense.definition}"


@torch.no_grad()
def _directions(text: TextConditioner, said: Sequence[str], progress: Progress | None = None) -> Tensor:
    """Mean states (S, D) of what is said, as long as 1; those of similar length are read together, and whole definitions."""
    order = sorted(range(len(said)), key=lambda place: len(said[place]))
    found = torch.empty(len(said), text.token_width)
    length = text.length
    text.resize(min(LONGEST, text.encoder.positions))
    try:
        for first in range(0, len(said), BATCH):
            some = order[first : first + BATCH]
            states, mask = text.states([said[place] for place in some])
            found[some] = F.normalize(states.sum(1) / mask.sum(1, keepdim=True), dim=1).float().cpu()
            if progress is not None:
                progress(min(first + BATCH, len(said)), len(said), "words")
    finally:
        text.resize(length)
    return found


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
