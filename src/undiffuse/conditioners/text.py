"""`TextConditioner`: captions through a text encoder to token states and, if asked for, their mean and a sketch."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from tokenizers import Tokenizer
from torch import Tensor

from undiffuse.conditioners.base import ConditionerPart, Fields, PartSpec, Routes, Sight, Size, Surroundings, Word
from undiffuse.conditioners.labels import CLASSES_NEEDED, check_label
from undiffuse.core.conditioning import Conditioning
from undiffuse.core.errors import SpecError, explain
from undiffuse.core.spec import Spec
from undiffuse.data.wording import named_in
from undiffuse.networks.memory import CONSIDERED, Seen, seen_around
from undiffuse.networks.sketcher import Sketcher, resized
from undiffuse.networks.text.bert import BertEncoder
from undiffuse.networks.text.wordpiece import Tokens, encode

REMEMBERED = 1024  # prompts; at 24 x 384 float32 a prompt takes 38 kB

Positive = Annotated[int, Field(ge=1)]


class BertSpec(Spec):
    """Sizes of a BERT-family text encoder; the defaults are all-MiniLM-L6-v2's."""

    vocabulary: Positive = 30522
    width: Positive = 384
    layers: Positive = 6
    heads: Positive = 12
    hidden: Positive = 1536
    positions: Positive = 512


class SketchSpec(Spec):
    """Sizes of a `Sketcher`; `channels` and `side` are those of the latent, and 0 where training is to fill them in.

    `remembered` pictures of the training set are in its memory, which training fills in too: `traits` numbers of each, and
    the first of these `twice`, for storage in a few bits. With `two` it tells two things in a caption apart.
    """

    channels: Annotated[int, Field(ge=0)] = 0
    side: Annotated[int, Field(ge=0)] = 0
    pools: Positive = 3
    width: Positive = 512
    depth: Positive = 2
    rank: Positive = 256
    remembered: Annotated[int, Field(ge=0)] = 0
    key: Positive = 128
    traits: Positive = 1024
    twice: Annotated[int, Field(ge=0)] = 0
    two: bool = False

    @model_validator(mode="after")
    def _has_them_once(self) -> Self:
        if self.twice > self.traits:
            raise ValueError(explain(f"twice = {self.twice}", f"there are traits = {self.traits} to keep", "lower it"))
        return self


class TextSpec(PartSpec):
    """Captions through a frozen text encoder: token states for cross-attention, their mean as a vector.

    With `sketch` the part also delivers a map: the mean latent of a caption, as a net of these sizes expects it.
    `classes` are the labels that may be told as well, each by its name; with `labelled` training takes those of the data.
    With `thesaurus` words that no caption had are read as words that some had, which a file beside the weights names.
    `source` names where training takes the encoder from: "minilm" (the whole all-MiniLM-L6-v2, of whose
    vocabulary `rows` rows are kept), "default" (the embedded model's), a run, or a model folder; `lexicon` a folder of
    WordNet's database files, from which it makes a thesaurus.
    """

    kind: Literal["text"] = "text"
    encoder: BertSpec = BertSpec()
    length: Positive = 24
    pooled: bool = True
    sketch: SketchSpec | None = None
    labelled: bool = False
    classes: tuple[str, ...] = ()
    thesaurus: bool = False
    source: str | None = None
    rows: Positive | None = None
    lexicon: str | None = None

    def routes(self) -> Routes:
        """Tokens of the encoder's width, their mean, and a sketch."""
        width = self.encoder.width
        return Routes(tokens=width, vector=width if self.pooled else 0, spatial=self.sketch.channels if self.sketch else 0)

    def going_on(self, asked: PartSpec) -> Self:
        """Captions may become longer or shorter and labels be read, for no weight depends on it; the encoder stays."""
        told = asked.model_fields_set & {"length", "labelled", "classes"} if isinstance(asked, TextSpec) else ()
        return super().going_on(asked).model_copy(update={name: getattr(asked, name) for name in told})

    def fitted(self, surroundings: Surroundings) -> Self:
        """With the labels of the data set after those that it has, if labels are read.

        Raises:
            SpecError: when there are none.
        """
        if not self.labelled:
            return self
        classes = tuple(dict.fromkeys((*self.classes, *surroundings.labels)))
        if not classes:
            given = "a conditioner of kind 'text' with labelled = true, but the data set names no classes"
            raise SpecError(explain(given, CLASSES_NEEDED, "leave it out, or set data.label to a field of the data set"))
        return self.model_copy(update={"classes": classes})

    def build(self, tokenizer: Tokenizer | None) -> TextConditioner:
        """The part with a fresh encoder.

        Raises:
            SpecError: without a tokenizer.
        """
        if tokenizer is None:
            raise SpecError(explain("a text conditioner without a tokenizer", "it needs tokenizer.json beside its weights"))
        encoder = BertEncoder(**self.encoder.model_dump())
        sketcher = None if self.sketch is None else Sketcher(self.encoder.width, **self.sketch.model_dump())
        return TextConditioner(
            tokenizer, encoder, length=self.length, pooled=self.pooled, sketcher=sketcher, classes=self.classes
        )


class TextConditioner(ConditionerPart):
    """Reads `caption`, and `label` where it has classes; the null is the empty caption.

    A frozen encoder sees every prompt alone and padded to the same length, so a prompt's states are equal
    to the bit whatever batch it arrives in, and the latest prompts are remembered. A trainable encoder sees
    the whole batch at once and passes gradients. States at padding are zero. A label is read as words are: its name is
    the caption, or the beginning of it where there is one too. `thesaurus` tells which words are read as others.

    Args:
        tokenizer: from `networks/text/wordpiece.py`.
        encoder: token ids to states.
        length: tokens of every row, marks included.
        frozen: whether the encoder is left as it is.
        pooled: whether the mean of the states fills the vector slot.
        sketcher: gives the mean latent of a caption from its states, for the spatial slot; it is frozen too.
        classes: labels that are read.

    Raises:
        SpecError: when the encoder cannot hold `length` tokens or has another vocabulary than the tokenizer.
    """

    readings = ("caption", "sketch")
    stored = False

    def __init__(
        self,
        tokenizer: Tokenizer,
        encoder: BertEncoder,
        length: int = 24,
        frozen: bool = True,
        pooled: bool = True,
        sketcher: Sketcher | None = None,
        classes: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.call(classes)
        if tokenizer.get_vocab_size() != encoder.words.num_embeddings:
            given = f"a tokenizer of {tokenizer.get_vocab_size()} pieces, an encoder of {encoder.words.num_embeddings}"
            raise SpecError(explain(given, "both must be equal", "use the tokenizer that came with the encoder"))
        self.tokenizer = tokenizer
        self.encoder = encoder
        self._remembered: OrderedDict[str, Conditioning] = OrderedDict()
        self.resize(length)
        self.frozen = frozen
        self.pooled = pooled
        self.token_width = encoder.width
        self.vector_width = encoder.width if pooled else 0
        self.sketcher: Sketcher | None = None
        if sketcher is not None:
            self.sketch_with(sketcher)
        self.register_load_state_dict_post_hook(_forget)
        if frozen:
            encoder.requires_grad_(False)

    def forward(self, rows: Sequence[Fields], size: Size | None = None) -> Conditioning:
        """Tokens (B, N, D), their mask (B, N), when pooled a vector (B, D), with a sketcher its map (B, C, h, w).

        Where a row tells what is around a hole, too, as a mask conditioner reads it, a sketch from memory agrees with that.
        A row may bring its `sketch` (C, h, w) along, which no words make then.
        """
        captions = [self.understood(row.get("caption") or "") for row in rows]
        cond = Conditioning.cat([self._recall(caption) for caption in captions]) if self.frozen else self._encode(captions)
        if cond.spatial is None or cond.tokens is None or cond.token_mask is None:
            return cond
        size = (cond.spatial.shape[2], cond.spatial.shape[3]) if size is None else size
        sketches = list(resized(cond.spatial, size).split(1))
        for index, row in enumerate(rows):
            brought, own = row.get("sketch"), slice(index, index + 1)
            if brought is not None:
                sketches[index] = resized(brought[None].to(cond.spatial), size)
            elif self.sketcher is not None and (seen := self._seen(row)) is not None:
                sketches[index] = resized(self.sketcher(cond.tokens[own], cond.token_mask[own], seen), size)
        return replace(cond, spatial=torch.cat(sketches))

    def read(self, given: Sequence[Fields], sight: Sight) -> list[dict[str, Any]]:
        """The caption, with the name of a label before it.

        Raises:
            SpecError: for a label that is not among the classes.
        """
        readings: list[dict[str, Any]] = []
        for row in given:
            label, caption = row.get("label") if self.classes else None, row.get("caption")
            if label is not None:
                check_label(label, self.classes)
                caption = ", ".join(part for part in (label, caption) if part)
            readings.append({} if caption is None else {"caption": caption})
        return readings

    def states(self, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Token states (B, N, D), zero at padding, and which of them count (B, N): the encoder alone, word for word.

        Equal to those of single rows up to the rounding of a batched product; meant for caches of a whole data set.
        """
        ids, mask, _ = self._tokenize(captions)
        longest = int(mask.sum(1).max()) if len(mask) else 0  # what is padding for all of them is not computed
        ids, mask = ids.to(self.device), mask.to(self.device)
        states = self.encoder(ids[:, :longest], mask[:, :longest]) * mask[:, :longest, None]
        return F.pad(states, (0, 0, 0, self.length - longest)), mask

    def call(self, classes: Sequence[str]) -> None:
        """Read these labels from now on, each by its name."""
        self.classes = tuple(classes)
        self.fields = ("caption", "label") if self.classes else ("caption",)

    def resize(self, length: int) -> None:
        """Read captions of up to `length` tokens from now on.

        Raises:
            SpecError: when the encoder has no positions for so many.
        """
        if length > self.encoder.positions:
            raise SpecError(explain(f"captions of {length} tokens", f"the text encoder holds up to {self.encoder.positions}"))
        self.length = length
        self.forget()

    def sketch_with(self, sketcher: Sketcher) -> None:
        """Deliver the map of this net from now on."""
        self.sketcher = sketcher.requires_grad_(False)
        self.spatial_channels = sketcher.channels
        self.forget()

    def understood(self, caption: str) -> str:
        """A caption as it is read, with known words in place of others."""
        return caption if self.thesaurus is None else self.thesaurus.read(caption)

    def truncated(self, captions: Sequence[str]) -> list[bool]:
        """Which captions are too long, so that their end goes unread."""
        return self._tokenize([self.understood(caption) for caption in captions]).truncated

    def words(self, row: Fields) -> list[Word]:
        """The words and signs of the caption, as far as it is read, and as it is."""
        caption = self.understood(row.get("caption") or "")
        found = self.tokenizer.encode(caption)
        places: dict[int, list[int]] = {}
        for place, word in enumerate(found.word_ids[: self.length - 1]):  # the last place is the end mark's
            if word is not None:
                places.setdefault(word, []).append(place)
        ends = [(found.offsets[some[0]][0], found.offsets[some[-1]][1]) for some in places.values()]
        return [Word(caption[start:end], tuple(some)) for (start, end), some in zip(ends, places.values(), strict=True)]

    def names_in(self, caption: str) -> list[str]:
        """The labels that a caption names, as it is understood; none where no labels are read."""
        return named_in(self.understood(caption), self.classes)

    def things(self, name: str, count: int) -> Tensor:
        """Remembered things (K, C + 1, side, side), paint and cover, that are likeliest of a name; K = 0 without a memory."""
        return torch.zeros(0) if self.sketcher is None else self.sketcher.things(*self.states([name]), count)

    def called_to_mind(self, row: Fields, count: int) -> tuple[Tensor, Tensor]:
        """Probabilities (K,) and maps (K, C, side, side) of the training pictures that a row calls to mind, `count` at most."""
        if self.sketcher is None:
            return torch.zeros(0), torch.zeros(0)
        states, mask = self.states([self.understood(row.get("caption") or "")])
        return self.sketcher.call_to_mind(states, mask, count, self._seen(row))

    @property
    def remembers(self) -> bool:
        """Whether sketches come from a memory of pictures."""
        return self.sketcher is not None and self.sketcher.memory is not None

    def closes(self, row: Fields) -> bool:
        """Whether the sketch of this row tells what may be in a hole: with words, and a memory that heeds what is around."""
        return self.remembers and bool(row.get("caption")) and row.get("hole") is not None

    def agrees(self, row: Fields) -> float:
        """How likely it is that a picture around a hole is one of those remembered, as it is; 0 where nothing is to be seen."""
        if self._seen(row) is None:
            return 0.0
        return float(self.called_to_mind(row, CONSIDERED)[0].sum())

    def forget(self) -> None:
        """Drop the remembered prompts; needed after weights of a frozen encoder were changed by hand."""
        self._remembered.clear()

    def _seen(self, row: Fields) -> Seen | None:
        """What is around a hole of a picture that words are said of; None where that tells a memory nothing."""
        if not self.closes(row):
            return None
        assert self.sketcher is not None
        hole, around = (row[name][None].to(self.device) for name in ("hole", "around"))
        seen = seen_around(hole, around, self.sketcher.side)
        return seen if bool(seen.where.any()) else None

    def _recall(self, caption: str) -> Conditioning:
        found = self._remembered.pop(caption, None)
        if found is None:
            found = self._encode_alone(caption)
        self._remembered[caption] = found  # the youngest stands last
        if len(self._remembered) > REMEMBERED:
            self._remembered.popitem(last=False)
        return found

    def _encode_alone(self, caption: str) -> Conditioning:
        # What is remembered must not depend on the mode of whoever asked first: inference mode and autocast are off.
        with torch.inference_mode(False), torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            return self._encode([caption])

    def _encode(self, captions: Sequence[str]) -> Conditioning:
        states, mask = self.states(captions)
        return Conditioning(
            tokens=states,
            token_mask=mask,
            vector=_mean(states, mask) if self.pooled else None,
            spatial=None if self.sketcher is None else self.sketcher(states, mask),
        )

    def _tokenize(self, captions: Sequence[str]) -> Tokens:
        return encode(self.tokenizer, captions, self.length)

    def _apply(self, *args: Any, **kwargs: Any) -> TextConditioner:
        self.forget()  # moved or cast: what is remembered lies elsewhere or has another precision
        return super()._apply(*args, **kwargs)


def _mean(states: Tensor, mask: Tensor) -> Tensor:
    """Mean over the tokens that count, of states (B, N, D) that are zero elsewhere."""
    return states.sum(1) / mask.sum(1, keepdim=True)  # (B, D)


def _forget(part: TextConditioner, _: object) -> None:
    part.forget()
