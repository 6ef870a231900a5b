"""`CLIPConditioner`: prompts through one or two CLIP text encoders, as Stable Diffusion 1.x, 2.x and XL read them."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from tokenizers import Tokenizer
from torch import Tensor, nn

from undiffuse.conditioners.base import ConditionerPart, Fields, PartSpec, Routes, Sight, Size, Word
from undiffuse.conditioners.prompts import comfyui
from undiffuse.conditioners.prompts.chunks import Chunk, cut
from undiffuse.conditioners.prompts.grammar import parse
from undiffuse.conditioners.prompts.weights import interpolated, stressed
from undiffuse.core.conditioning import Conditioning
from undiffuse.core.errors import SpecError, explain
from undiffuse.core.spec import Spec, pick
from undiffuse.networks.text.bpe import LENGTH, clip_tokenizer, marked, read_back, units
from undiffuse.networks.text.clip import CLIPTextEncoder
from undiffuse.networks.text.learned import LearnedWord, NewWords

A1111, COMFYUI, PLAIN = GRAMMARS = ("a1111", "comfyui", "plain")
EXTRA = re.compile(r"<(lora|lyco|hypernet):[^>]*>")
REMEMBERED = 64  # prompts; one of XL takes 630 kB in float32

Positive = Annotated[int, Field(ge=1)]


class CLIPEncoderSpec(Spec):
    """Sizes of one encoder, and what is read of it.

    `skip` layers before the last give the states, 0 for SD 1.x, 1 for SD 2.x and XL; `normed` says whether the final norm
    follows. The pooled vector is read of one encoder at most. `pad` fills what is behind the end: the end token when
    left out, 0 for OpenCLIP.
    """

    vocabulary: Positive = 49408
    width: Positive
    layers: Positive
    heads: Positive
    hidden: Positive | None = None
    positions: Positive = LENGTH
    activation: Literal["quick_gelu", "gelu"] = "quick_gelu"
    projection: Positive | None = None
    skip: Annotated[int, Field(ge=0)] = 0
    normed: bool = True
    pooled: bool = False
    pad: Annotated[int, Field(ge=0)] | None = None

    @property
    def cut(self) -> int:
        """Layers of the trained net that are not here: diffusers leaves out the last one of SD 2.x, which nothing reads."""
        return 1 if self.pad == 0 and self.skip == 0 else 0

    def skipped(self, clip_skip: int) -> int:
        """How many layers before the last that is here the states are read, with A1111's count from the end."""
        return max(self.skip, clip_skip - 1 - self.cut)


class CLIPSpec(PartSpec):
    """Prompts through frozen CLIP encoders, their states side by side in every token.

    `null` says what an empty prompt is: "encoded" like any other, or "zeros", as XL's base model was trained.
    """

    kind: Literal["clip"] = "clip"
    encoders: Annotated[tuple[CLIPEncoderSpec, ...], Field(min_length=1)]
    null: Literal["encoded", "zeros"] = "encoded"

    def routes(self) -> Routes:
        """Tokens as wide as all encoders together, and the pooled vector where one is read."""
        pooled = sum(encoder.projection or encoder.width for encoder in self.encoders if encoder.pooled)
        return Routes(tokens=sum(encoder.width for encoder in self.encoders), vector=pooled)

    def build(self, tokenizer: Tokenizer | None) -> CLIPConditioner:
        """The part with fresh encoders; the tokenizer comes with this package."""
        return CLIPConditioner(self.encoders, zeros=self.null == "zeros")


class CLIPConditioner(ConditionerPart):
    """Reads `caption`, and how it is read: `grammar` and `clip_skip`. The null is the empty caption.

    "a1111" is the grammar of AUTOMATIC1111's web UI: `(x:1.2)` stresses, prompts of any length go on in further chunks of
    75 tokens, each encoded alone, and states are multiplied by the weights of their tokens and brought back to the mean
    that a chunk had. "comfyui" is ComfyUI's: states are led away from those of the empty prompt by the weights, and an
    empty prompt is encoded whatever the model was trained on. "plain" takes the text as it stands and reads its first 75
    tokens.

    `clip_skip` counts layers as A1111 does: 1 reads what the model was trained on, 2 the states before the last layer. An
    encoder that leaves out its last layer anyway, as those of SD 2.x and XL, reads the same for 1 and 2. From 3 on ComfyUI
    goes further back there, in both encoders of XL, and so do we; A1111 would pass over it. Pooled is always the last.

    Every prompt is encoded alone, so its states are equal to the bit whatever batch it arrives in, and the latest
    prompts are remembered.

    Args:
        specs: an encoder each.
        zeros: whether an empty caption gives zeros.
    """

    fields = ("caption", "grammar", "clip_skip")
    readings = ("caption",)
    stored = False
    frozen = True

    def __init__(self, specs: Sequence[CLIPEncoderSpec], zeros: bool = False) -> None:
        super().__init__()
        self.specs = tuple(specs)
        self.zeros = zeros
        kept = {"skip", "normed", "pooled", "pad"}
        encoders = [CLIPTextEncoder(**spec.model_dump(exclude=kept)) for spec in specs]
        self.encoders = nn.ModuleList(encoders)
        self.encoders.requires_grad_(False)
        self.token_width = sum(spec.width for spec in specs)
        self.vector_width = sum(spec.projection or spec.width for spec in specs if spec.pooled)
        self.new_words = [NewWords(encoder.words) for encoder in encoders]
        self._remembered: OrderedDict[tuple[str, str, int], Conditioning] = OrderedDict()
        self.register_load_state_dict_post_hook(_forget)

    def forward(self, rows: Sequence[Fields], size: Size | None = None) -> Conditioning:
        """Tokens (B, 77 x chunks, D) and, where one is read, a vector (B, P).

        Raises:
            SpecError: for an unknown grammar.
        """
        told = [(row.get("caption") or "", row.get("grammar") or A1111, row.get("clip_skip") or 1) for row in rows]
        return Conditioning.cat([self._recall(*one) for one in told])

    def read(self, given: Sequence[Fields], sight: Sight) -> list[dict[str, Any]]:
        """Caption, grammar and clip skip as they are.

        Raises:
            SpecError: for an unknown grammar, for more layers left out than there are, and for what A1111 has in prompts
                and we have beside them.
        """
        most = min(spec.layers + spec.cut for spec in self.specs)
        told = [{name: row[name] for name in self.fields if row.get(name) is not None} for row in given]
        for row in told:
            pick(dict.fromkeys(GRAMMARS), row.get("grammar", A1111), "grammar")
            if not 1 <= row.get("clip_skip", 1) <= most:
                raise SpecError(explain(f"clip_skip = {row['clip_skip']}", f"1 to {most} is allowed with this text encoder"))
            extra = EXTRA.search(row.get("caption", ""))
            if extra and row.get("grammar") != PLAIN:
                remedy = "undiffuse generate --lora FILE:WEIGHT, or undiffuse.add_lora(model, FILE, WEIGHT)"
                raise SpecError(explain(f"{extra[0]} in the prompt", "LoRAs are named beside it, by their files", remedy))
        return told

    def words(self, row: Fields) -> list[Word]:
        """The words and signs of the caption, learned words whole; stress marks are not among them."""
        if not row.get("caption"):
            return []
        spec, learned = self.specs[0], self.new_words[0]
        ids, _ = self._chunks(row["caption"], row.get("grammar") or A1111, spec, learned)
        found = [read_back(clip_tokenizer(), chunk, learned.ids) for chunk in ids.tolist()]
        return [
            Word(text, tuple(spec.positions * number + place for place in places))
            for number, chunk in enumerate(found)
            for text, places in chunk
        ]

    def truncated(self, captions: Sequence[str]) -> list[bool]:
        """None: a long prompt goes on in further chunks."""
        return [False] * len(captions)

    def text_encoders(self) -> Sequence[nn.Module]:
        """All of them, the first of XL before the second."""
        return tuple(self.encoders)

    def learn(self, word: LearnedWord) -> None:
        """Read a learned word from now on.

        Raises:
            ShapeMismatch: when it was made for text encoders of other widths.
        """
        vectors = word.for_widths([spec.width for spec in self.specs])
        for words, rows in zip(self.new_words, vectors, strict=True):
            words.learn(word.name, rows)
        self.forget()

    def forget(self) -> None:
        """Drop the remembered prompts; needed after weights were changed by hand."""
        self._remembered.clear()

    def encode(self, caption: str, grammar: str = A1111, clip_skip: int = 1) -> Conditioning:
        """The conditioning of one prompt."""
        tokens, pooled = [], []
        for spec, encoder, words in zip(self.specs, self.encoders, self.new_words, strict=True):
            ids, weights = (value.to(self.device) for value in self._chunks(caption, grammar, spec, words))
            skip = spec.skipped(clip_skip)
            states = encoder(words.plain(ids), skip, spec.normed, words.embed(ids))
            if grammar == COMFYUI and (weights != 1).any():
                nothing, _ = self._chunks("", grammar, spec, words)
                weighed = interpolated(states.tokens, weights, encoder(nothing.to(self.device), skip, spec.normed).tokens[0])
            else:
                weighed = stressed(states.tokens, weights)
            tokens.append(weighed.flatten(0, 1)[None])  # (1, 77 x chunks, D)
            if spec.pooled:
                pooled.append(states.pooled[:1])  # (1, P), of the first chunk
        share = 0.0 if self.zeros and not caption and grammar != COMFYUI else 1.0
        return Conditioning(
            tokens=torch.cat(tokens, dim=2) * share, vector=torch.cat(pooled, dim=1) * share if pooled else None
        )

    def _chunks(self, caption: str, grammar: str, spec: CLIPEncoderSpec, words: NewWords) -> tuple[Tensor, Tensor]:
        """Token ids and their weights (chunks, 77)."""
        tokenizer = clip_tokenizer()
        chunks = _cut(tokenizer, caption, grammar, words, spec.positions)
        ids = torch.stack([marked(tokenizer, chunk.ids, spec.pad, spec.positions) for chunk in chunks])
        weights = torch.ones(ids.shape)
        for row, chunk in zip(weights, chunks, strict=True):
            row[1 : 1 + len(chunk.weights)] = torch.tensor(chunk.weights)
        return ids, weights

    def _recall(self, caption: str, grammar: str, clip_skip: int) -> Conditioning:
        told = (caption, grammar, clip_skip)
        found = self._remembered.pop(told, None)
        if found is None:
            # What is remembered must not depend on the mode of whoever asked first: inference mode and autocast are off.
            with torch.inference_mode(False), torch.no_grad(), torch.autocast(self.device.type, enabled=False):
                found = self.encode(*told)
        self._remembered[told] = found  # the youngest stands last
        if len(self._remembered) > REMEMBERED:
            self._remembered.popitem(last=False)
        return found

    def _apply(self, *args: Any, **kwargs: Any) -> CLIPConditioner:
        self.forget()  # moved or cast: what is remembered lies elsewhere or has another precision
        return super()._apply(*args, **kwargs)


def _cut(tokenizer: Tokenizer, caption: str, grammar: str, words: NewWords, length: int) -> list[Chunk]:
    """A prompt cut as its grammar says, in chunks that fill `length` tokens with their marks."""

    def tokenize(text: str) -> list[tuple[int, ...]]:
        return units(tokenizer, text, words.ids)

    if grammar == PLAIN:
        ids = [token for unit in tokenize(caption) for token in unit][: length - 2]
        return [Chunk(tuple(ids), (1.0,) * len(ids))]
    if grammar == COMFYUI:
        return comfyui.fill(comfyui.parse(caption), tokenize)
    (comma,) = tokenizer.encode(",", add_special_tokens=False).ids
    return cut(parse(caption), tokenize, comma)


def _forget(part: CLIPConditioner, _: object) -> None:
    part.forget()
