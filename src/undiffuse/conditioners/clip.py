"""`CLIPConditioner`: prompts through one or two CLIP text encoders, as Stable Diffusion 1.x, 2.x and XL read them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from tokenizers import Tokenizer
from torch import nn

from undiffuse.conditioners.base import ConditionerPart, Fields, PartSpec, Routes, Size
from undiffuse.core.conditioning import Conditioning
from undiffuse.core.spec import Spec
from undiffuse.networks.text.bpe import LENGTH, clip_tokenizer, encode_clip
from undiffuse.networks.text.clip import CLIPTextEncoder
from undiffuse.networks.text.learned import LearnedWord, NewWords

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
    """Reads `caption`; the null is the empty caption.

    Every prompt is encoded alone, so its states are equal to the bit whatever batch it arrives in, and the latest
    prompts are remembered.

    Args:
        specs: an encoder each.
        zeros: whether an empty caption gives zeros.
    """

    fields = ("caption",)
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
        self._remembered: OrderedDict[str, Conditioning] = OrderedDict()
        self.register_load_state_dict_post_hook(_forget)

    def forward(self, rows: Sequence[Fields], size: Size | None = None) -> Conditioning:
        """Tokens (B, 77, D) and, where one is read, a vector (B, P)."""
        return Conditioning.cat([self._recall(row.get("caption") or "") for row in rows])

    def truncated(self, captions: Sequence[str]) -> list[bool]:
        """Which captions are too long, so that their end goes unread."""
        return encode_clip(clip_tokenizer(), captions, learned=self.new_words[0].ids).truncated

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

    def encode(self, caption: str) -> Conditioning:
        """The conditioning of one prompt."""
        tokens, pooled = [], []
        for spec, encoder, words in zip(self.specs, self.encoders, self.new_words, strict=True):
            ids = encode_clip(clip_tokenizer(), [caption], spec.pad, spec.positions, words.ids).ids.to(self.device)
            states = encoder(words.plain(ids), spec.skip, spec.normed, words.embed(ids))
            tokens.append(states.tokens)  # (1, 77, D)
            if spec.pooled:
                pooled.append(states.pooled)  # (1, P)
        share = 0.0 if self.zeros and not caption else 1.0
        return Conditioning(
            tokens=torch.cat(tokens, dim=2) * share, vector=torch.cat(pooled, dim=1) * share if pooled else None
        )

    def _recall(self, caption: str) -> Conditioning:
        found = self._remembered.pop(caption, None)
        if found is None:
            # What is remembered must not depend on the mode of whoever asked first: inference mode and autocast are off.
            with torch.inference_mode(False), torch.no_grad(), torch.autocast(self.device.type, enabled=False):
                found = self.encode(caption)
        self._remembered[caption] = found  # the youngest stands last
        if len(self._remembered) > REMEMBERED:
            self._remembered.popitem(last=False)
        return found

    def _apply(self, *args: Any, **kwargs: Any) -> CLIPConditioner:
        self.forget()  # moved or cast: what is remembered lies elsewhere or has another precision
        return super()._apply(*args, **kwargs)


def _forget(part: CLIPConditioner, _: object) -> None:
    part.forget()
