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
from undiffuse.conditioners.prompts.chunks import cut
from undiffuse.conditioners.prompts.grammar import parse
from undiffuse.core.conditioning import Conditioning
from undiffuse.core.errors import SpecError, explain
from undiffuse.core.spec import Spec, pick
from undiffuse.networks.text.bpe import LENGTH, clip_tokenizer, encode_clip, marked, read_back, units
from undiffuse.networks.text.clip import CLIPTextEncoder
from undiffuse.networks.text.learned import LearnedWord, NewWords

A1111, PLAIN = GRAMMARS = ("a1111", "plain")
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
    """Reads `caption`, and `grammar`: how it is read. The null is the empty caption.

    "a1111" is the grammar of AUTOMATIC1111's web UI: `(x:1.2)` stresses, prompts of any length go on in further chunks of
    75 tokens, each encoded alone, and states are multiplied by the weights of their tokens and brought back to the mean
    that a chunk had. "plain" takes the text as it stands and reads its first 75 tokens.

    Every prompt is encoded alone, so its states are equal to the bit whatever batch it arrives in, and the latest
    prompts are remembered.

    Args:
        specs: an encoder each.
        zeros: whether an empty caption gives zeros.
    """

    fields = ("caption", "grammar")
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
        self._remembered: OrderedDict[tuple[str, str], Conditioning] = OrderedDict()
        self.register_load_state_dict_post_hook(_forget)

    def forward(self, rows: Sequence[Fields], size: Size | None = None) -> Conditioning:
        """Tokens (B, 77 x chunks, D) and, where one is read, a vector (B, P).

        Raises:
            SpecError: for an unknown grammar.
        """
        return Conditioning.cat([self._recall(row.get("caption") or "", row.get("grammar") or A1111) for row in rows])

    def read(self, given: Sequence[Fields], sight: Sight) -> list[dict[str, Any]]:
        """Caption and grammar as they are.

        Raises:
            SpecError: for an unknown grammar, and for what A1111 has in prompts and we have beside them.
        """
        told = [{name: row[name] for name in self.fields if row.get(name) is not None} for row in given]
        for row in told:
            pick(dict.fromkeys(GRAMMARS), row.get("grammar", A1111), "grammar")
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

    def encode(self, caption: str, grammar: str = A1111) -> Conditioning:
        """The conditioning of one prompt."""
        tokens, pooled = [], []
        for spec, encoder, words in zip(self.specs, self.encoders, self.new_words, strict=True):
            ids, weights = (value.to(self.device) for value in self._chunks(caption, grammar, spec, words))
            states = encoder(words.plain(ids), spec.skip, spec.normed, words.embed(ids))
            tokens.append(stressed(states.tokens, weights).flatten(0, 1)[None])  # (1, 77 x chunks, D)
            if spec.pooled:
                pooled.append(states.pooled[:1])  # (1, P), of the first chunk
        share = 0.0 if self.zeros and not caption else 1.0
        return Conditioning(
            tokens=torch.cat(tokens, dim=2) * share, vector=torch.cat(pooled, dim=1) * share if pooled else None
        )

    def _chunks(self, caption: str, grammar: str, spec: CLIPEncoderSpec, words: NewWords) -> tuple[Tensor, Tensor]:
        """Token ids and their weights (chunks, 77)."""
        tokenizer = clip_tokenizer()
        if grammar == PLAIN:
            ids = encode_clip(tokenizer, [caption], spec.pad, spec.positions, words.ids).ids
            return ids, torch.ones(ids.shape)
        (comma,) = tokenizer.encode(",", add_special_tokens=False).ids
        chunks = cut(parse(caption), lambda text: units(tokenizer, text, words.ids), comma)
        ids = torch.stack([marked(tokenizer, chunk.ids, spec.pad, spec.positions) for chunk in chunks])
        weights = torch.ones(ids.shape)
        for row, chunk in zip(weights, chunks, strict=True):
            row[1 : 1 + len(chunk.weights)] = torch.tensor(chunk.weights)
        return ids, weights

    def _recall(self, caption: str, grammar: str) -> Conditioning:
        found = self._remembered.pop((caption, grammar), None)
        if found is None:
            # What is remembered must not depend on the mode of whoever asked first: inference mode and autocast are off.
            with torch.inference_mode(False), torch.no_grad(), torch.autocast(self.device.type, enabled=False):
                found = self.encode(caption, grammar)
        self._remembered[caption, grammar] = found  # the youngest stands last
        if len(self._remembered) > REMEMBERED:
            self._remembered.popitem(last=False)
        return found

    def _apply(self, *args: Any, **kwargs: Any) -> CLIPConditioner:
        self.forget()  # moved or cast: what is remembered lies elsewhere or has another precision
        return super()._apply(*args, **kwargs)


def stressed(states: Tensor, weights: Tensor) -> Tensor:
    """States (C, N, D) of chunks times the weights of their tokens (C, N), each chunk brought back to the mean that it had."""
    weighted = states * weights[..., None].to(states)
    changed = (weights != 1).any(1)[:, None, None]
    ratio = states.mean((1, 2), keepdim=True) / weighted.mean((1, 2), keepdim=True)
    return torch.where(changed, weighted * ratio, states)


def _forget(part: CLIPConditioner, _: object) -> None:
    part.forget()
