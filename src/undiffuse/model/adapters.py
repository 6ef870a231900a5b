"""`Adapters`: the LoRAs that a model wears. They change how its nets compute; its own weights stay what they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from torch import nn

from undiffuse.conditioners.combined import Conditioner
from undiffuse.core.errors import UsageError, explain
from undiffuse.model.denoiser import Denoiser
from undiffuse.networks.added import Added, check_fit
from undiffuse.networks.lora import Term
from undiffuse.networks.text.learned import LearnedWord

UNET, TEXT, TEXT_2 = "unet", "text_encoder", "text_encoder_2"


@dataclass(frozen=True, eq=False)
class Lora:
    """Terms for the nets of a model: by net ("unet", "text_encoder", "text_encoder_2"), then by our path of the layer.

    `path` is that of its file, `hash` what other programs name it by, `header` the texts in it.
    """

    name: str
    terms: Mapping[str, Mapping[str, Term]]
    path: str = ""
    hash: str = ""
    header: Mapping[str, str] = field(default_factory=dict, repr=False)


class Weights(NamedTuple):
    """How much a LoRA counts in the U-Net, and in the text encoders."""

    unet: float
    text: float

    def of(self, net: str) -> float:
        """That of a net."""
        return self.unet if net == UNET else self.text


class Worn(NamedTuple):
    """A LoRA at work."""

    lora: Lora
    weights: Weights


class Origins(NamedTuple):
    """Where a part of a model came from: the name of its file, and its hash."""

    name: str
    hash: str


class Adapters:
    """What is added to the nets of one model, and where an autoencoder came from that took the place of its own."""

    def __init__(self, denoiser: Denoiser, conditioner: Conditioner) -> None:
        self._denoiser = denoiser
        self._conditioner = conditioner
        self._added: dict[str, Added] = {}
        self._loras: dict[str, Worn] = {}
        self._words: dict[str, LearnedWord] = {}
        self.vae: Origins | None = None

    @property
    def words(self) -> dict[str, LearnedWord]:
        """Every learned word, by name."""
        return dict(self._words)

    @property
    def loras(self) -> dict[str, Worn]:
        """Every LoRA that is worn and how much it counts, by name."""
        return dict(self._loras)

    def nets(self) -> dict[str, nn.Module]:
        """The nets that LoRAs know, by the names that they have there."""
        encoders = [encoder for part in self._conditioner.parts for encoder in part.text_encoders()]
        return {UNET: self._denoiser.network, **dict(zip((TEXT, TEXT_2), encoders, strict=False))}

    def wear(self, lora: Lora, weight: float = 1.0, text_weight: float | None = None) -> None:
        """Put a LoRA to work.

        Args:
            lora: made for nets of these shapes.
            weight: how much it counts; 0 is not at all.
            text_weight: another weight for the text encoders.

        Raises:
            UsageError: when one of this name is worn already, or the model lacks one of its nets.
            ShapeMismatch: when it does not fit; then nothing has changed.
        """
        if lora.name in self._loras:
            given = f"a LoRA {lora.name!r} is worn already"
            raise UsageError(explain(given, "a name is taken once", "change its weight, or give one of the two another name"))
        nets = self.nets()
        absent = [net for net in lora.terms if net not in nets]
        if absent:
            raise UsageError(explain(f"LoRA {lora.name!r} is for a {absent[0]}", f"this model has {', '.join(nets)}"))
        for net, terms in lora.terms.items():
            check_fit(nets[net], terms)
        weights = Weights(weight, weight if text_weight is None else text_weight)
        for net, terms in lora.terms.items():
            if net not in self._added:
                self._added[net] = Added(nets[net])
            self._added[net].attach(lora.name, terms, weights.of(net))
        self._loras[lora.name] = Worn(lora, weights)
        self._conditioner.forget()

    def set_weight(self, name: str, weight: float, text_weight: float | None = None) -> None:
        """Let a LoRA count more or less.

        Raises:
            UsageError: when none of this name is worn.
        """
        lora, _ = self._worn(name)
        weights = Weights(weight, weight if text_weight is None else text_weight)
        for net in lora.terms:
            self._added[net].set_weight(name, weights.of(net))
        self._loras[name] = Worn(lora, weights)
        self._conditioner.forget()

    def take_off(self, name: str) -> None:
        """Remove a LoRA; nothing of it stays.

        Raises:
            UsageError: when none of this name is worn.
        """
        lora, _ = self._worn(name)
        for net in lora.terms:
            self._added[net].detach(name)
        del self._loras[name]
        self._conditioner.forget()

    def learn(self, word: LearnedWord) -> None:
        """Know a learned word from now on; one of this name is replaced.

        Raises:
            ShapeMismatch: when it was made for text encoders of other widths.
            UsageError: when the model has no text encoder that takes such words.
        """
        readers = [part for part in self._conditioner.parts if part.text_encoders()]
        if not readers:
            given = f"the learned word {word.name!r}"
            raise UsageError(explain(given, "this model has no text encoder that takes such words", "leave it out"))
        for part in readers:
            part.learn(word)
        self._words[word.name] = word
        self._conditioner.forget()

    def merge(self) -> None:
        """Fold all LoRAs into the weights, for speed; `save_model` then writes a model that has them inside.

        Whoever asks for the fingerprint of a model meanwhile gets that of the changed one.
        """
        for added in self._added.values():
            added.merge()
        self._conditioner.forget()

    def unmerge(self) -> None:
        """Have the model's own weights back, to the bit; the LoRAs are still worn."""
        for added in self._added.values():
            added.unmerge()
        self._conditioner.forget()

    def _worn(self, name: str) -> Worn:
        if name not in self._loras:
            there = ", ".join(map(repr, self._loras)) or "none"
            raise UsageError(explain(f"no LoRA {name!r} is worn", f"those that are: {there}"))
        return self._loras[name]
