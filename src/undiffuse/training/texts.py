"""Where a run's frozen text encoder comes from, and which words it reads as others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from undiffuse.checkpoints.api import load_model
from undiffuse.checkpoints.minilm import find_minilm, load_minilm, prune_minilm
from undiffuse.conditioners.base import PartSpec
from undiffuse.conditioners.text import BertSpec, TextConditioner, TextSpec
from undiffuse.core.errors import SpecError, explain
from undiffuse.data.lexicon import Lexicon, read_wordnet
from undiffuse.data.records import Progress
from undiffuse.training.thesaurus import make_thesaurus, words_of

MINILM = "minilm"
DEFAULT = "default"
ROWS = 15_000
LONGEST = 48  # tokens of a definition


def load_text(spec: TextSpec, captions: Sequence[str]) -> tuple[TextConditioner, TextSpec]:
    """The part that reads captions, with the weights that `spec.source` names, and the spec with its true sizes.

    Args:
        spec: "minilm", "default", a run or a model folder as its source; "default" when it names none.
        captions: of the data set; the whole MiniLM keeps the vocabulary that they need, and `spec.rows` rows in all.

    Raises:
        CheckpointError, DependencyError: when the source cannot be read.
        SpecError: when it reads no captions, or `spec` asks for a sketch, which a run of its own has to learn.
    """
    if spec.sketch is not None:
        given = "a conditioner of kind 'text' with a sketch"
        raise SpecError(
            explain(given, "a sketch is learned before", "train a recipe of kind 'sketch', then go on from its run")
        )
    source = spec.source or DEFAULT
    if source == MINILM:
        encoder, tokenizer = load_minilm()
        encoder, tokenizer = prune_minilm(encoder, tokenizer, captions, rows=spec.rows or ROWS)
        sizes = BertSpec(vocabulary=encoder.words.num_embeddings)
    else:
        model = load_model(source)
        text = next((part for part in model.conditioner.parts if isinstance(part, TextConditioner)), None)
        own = next((part for part in model.spec.conditioners if isinstance(part, TextSpec)), None)
        if text is None or own is None:
            given = f"the text source {source!r} reads no captions"
            raise SpecError(explain(given, "a model with a text encoder is needed"))
        tokenizer, encoder, sizes = text.tokenizer, text.encoder, own.encoder
    part = TextConditioner(tokenizer, encoder, length=spec.length, pooled=spec.pooled, classes=spec.classes)
    return part, spec.model_copy(update={"encoder": sizes, "source": None, "rows": None, "lexicon": None})


def lexicon_of(specs: Iterable[PartSpec | None]) -> Lexicon | None:
    """The lexicon that a text part among these asks for; read before anything is encoded, which takes minutes.

    Raises:
        DataError: when it is not there.
        DependencyError: when all-MiniLM-L6-v2 is not installed, by which words are compared.
    """
    folder = next((spec.lexicon for spec in specs if isinstance(spec, TextSpec)), None)
    if folder is None:
        return None
    find_minilm()
    return read_wordnet(folder)


def read_others(
    part: TextConditioner,
    captions: Sequence[str],
    labels: Iterable[str | None],
    lexicon: Lexicon | None,
    folder: Path,
    progress: Progress | None,
) -> bool:
    """Have a part read words as others, by a thesaurus made anew of the lexicon; without one, as before but for those of
    these captions and labels.

    Returns:
        Whether there are any.

    Raises:
        DataError: when there is a lexicon and no label.
    """
    known = {label for label in labels if label is not None}
    if lexicon is not None:
        encoder, tokenizer = load_minilm()  # whole: it has read many words that the part's vocabulary lacks
        reader = TextConditioner(tokenizer, encoder, length=min(LONGEST, encoder.positions)).to(part.device)
        part.thesaurus = make_thesaurus(reader, captions, known, lexicon, folder, progress)
    elif part.thesaurus is not None:
        part.thesaurus = part.thesaurus.without(words_of([*captions, *known]))
    return part.thesaurus is not None
