"""A thesaurus made from a lexicon: which of the words that captions have is nearest to a noun that none of them has.

A net that only ever saw captions hears "hound" as something between all that it knows. A text encoder has read far more
and finds a hound like a dog; a lexicon says that it is one. So such words are read as the label that both together name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from undiffuse.conditioners.text import TextConditioner
from undiffuse.conditioners.thesaurus import Thesaurus
from undiffuse.core.errors import DataError, explain
from undiffuse.data.lexicon import Lexicon
from undiffuse.data.records import Progress
from undiffuse.data.wording import plural
from undiffuse.training.captions import digest_of, read_kept, write_kept

FOLDER, FILE = "words", "likeness.safetensors"
WORD = re.compile(r"[a-z]+")
SHORTEST = 3  # letters
MEDIA = frozenset(
    "art artwork cartoon comic clipart doodle drawing graphic icon illustration image logo painting photo photograph picture "
    "portrait render rendering sketch style watercolor watercolour".split()
)  # what captions say of a picture, not of what it shows
LEAST = 0.4  # of likeness to some label, for a noun to be read as that
SENSES = 3  # of a word
STEPS = 4  # from a sense to what it is a kind of
KINSHIP = 0.3  # that a word is a label's namesake counts as much as so much more cosine; every step away halves it
BATCH = 256


def make_thesaurus(
    text: TextConditioner,
    captions: Iterable[str],
    labels: Iterable[str],
    lexicon: Lexicon,
    folder: Path,
    progress: Progress | None = None,
) -> Thesaurus:
    """What nouns of the lexicon are read as that no caption has and that are like some label; and more than one of a label.

    Args:
        text: by whose encoder words are compared; it reads whole definitions.
        captions: of the data set.
        labels: of its pictures.
        lexicon: says what words mean.
        folder: of the run, where likenesses are kept.
        progress: told (done, in all, what).

    Raises:
        DataError: when no picture has a label.
    """
    known = sorted(set(labels))
    if not known:
        given = "a text part with a lexicon, and pictures without labels"
        raise DataError(explain(given, "words are read as labels", "set data.label to a field of the data set"))
    taken = words_of([*captions, *known]) | MEDIA
    nouns = [word for word in lexicon.pictured() if _is_new(word, taken)]
    meant = _nearest(text, nouns, known, lexicon, folder / FOLDER / FILE, progress) if nouns else {}
    return Thesaurus(meant | {many: label for label in known if _is_new(many := plural(label), taken)})


def words_of(captions: Iterable[str]) -> set[str]:
    """Every word of these captions, in lower case, and the parts of hyphenated ones."""
    return {word for caption in captions for word in WORD.findall(caption.lower())}


def likeness(
    text: TextConditioner,
    words: Sequence[str],
    labels: Sequence[str],
    lexicon: Lexicon,
    progress: Progress | None = None,
) -> Tensor:
    """How much words are like labels, (W, L).

    It is the cosine of mean states, as sentence encoders compare them, of the word's nearest sense, as its names and its
    definition tell it: the mean of that to the label and to what the label means. Where the encoder has the word whole,
    that of the bare word to the label counts as much, for pieces of a word mean other things. And it is more where a label
    names what the word is a kind of, the nearer the more.
    """
    meant = _directions(text, labels)
    alone = _directions(text, words, progress) @ meant.T  # (W, L)
    of_label = [lexicon.depicted(label, 1) for label in labels]  # the first sense, or none
    explained = [_tell(label, own[0], lexicon) if own else label for label, own in zip(labels, of_label, strict=True)]
    defined = _directions(text, explained)
    senses = [lexicon.depicted(word, SENSES) for word in words]
    told = [_tell(word, number, lexicon) for word, some in zip(words, senses, strict=True) for number in some]
    owners = torch.tensor([place for place, some in enumerate(senses) for _ in some], dtype=torch.long)
    of_sense = _directions(text, told, progress) @ (meant + defined).T / 2  # (S, L)
    nearest = alone.scatter_reduce(0, owners[:, None].expand(-1, len(labels)), of_sense, "amax", include_self=False)
    whole = torch.tensor([len(text.words({"caption": word})[0].places) == 1 for word in words])
    found = torch.where(whole[:, None], (alone + nearest) / 2, nearest)
    named: dict[str, list[int]] = {}
    for place, own in enumerate(of_label):
        for number in own:
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


def _nearest(
    text: TextConditioner,
    words: Sequence[str],
    labels: Sequence[str],
    lexicon: Lexicon,
    path: Path,
    progress: Progress | None,
) -> dict[str, str]:
    """By word the label that it is most like, where it is like one; likenesses are kept, for they take minutes."""
    senses = [_tell(word, one, lexicon) for word in words for one in lexicon.depicted(word, SENSES)]
    constants = [str(one) for one in (SENSES, STEPS, KINSHIP)]
    digest = digest_of(text, [*words, "", *labels, "", *senses, "", *constants])
    kept = read_kept(path, digest)
    if kept is None:
        found = likeness(text, words, labels, lexicon, progress).max(1)
        kept = {"likeness": found.values, "labels": found.indices}
        path.parent.mkdir(parents=True, exist_ok=True)
        write_kept(path, digest, kept)
    rows = zip(words, kept["likeness"].tolist(), kept["labels"].tolist(), strict=True)
    return {word: labels[int(place)] for word, like, place in rows if like >= LEAST}


def _is_new(word: str, taken: set[str]) -> bool:
    """Whether it is a single word, and none that is taken, nor what more than one of it are."""
    return len(word) >= SHORTEST and bool(WORD.fullmatch(word)) and word not in taken and plural(word) not in taken


def _tell(word: str, number: str, lexicon: Lexicon) -> str:
    """A sense in words: "hound, hound dog, hunting dog: any of several breeds of dog used for hunting ..."."""
    sense = lexicon.senses[number]
    others = [name for name in sense.names if name.lower() != word]
    kinds = [lexicon.senses[kind].names[0] for kind in sense.kinds]
    return f"{', '.join([word, *others[:2], *kinds[:2]])}: {sense.definition}"


@torch.no_grad()
def _directions(text: TextConditioner, said: Sequence[str], progress: Progress | None = None) -> Tensor:
    """Mean states (S, D) of what is said, as long as 1; those of similar length are read together."""
    order = sorted(range(len(said)), key=lambda place: len(said[place]))
    found = torch.empty(len(said), text.token_width)
    for first in range(0, len(said), BATCH):
        some = order[first : first + BATCH]
        states, mask = text.states([said[place] for place in some])
        found[some] = F.normalize(states.sum(1) / mask.sum(1, keepdim=True), dim=1).float().cpu()
        if progress is not None:
            progress(min(first + BATCH, len(said)), len(said), "words")
    return found
