"""`ConditionerPart`: from raw fields of a row (caption, label, mask, ...) to some slots of a `Conditioning`.

What steers a picture goes through three hands, and a part may take a hand in each:

    what was said, or shown of an example   given    {"layout": class indices (H, W)}
    `read`, once a picture                  reading  {"layout": class indices (H, W)}, or latents, or features
    `forward`, every time it is needed      slots    Conditioning(spatial=(B, K, h, w))

In training nobody says anything: `show` makes up what a user could have said of an example (it draws a mask,
shrinks the picture), readings are kept with the latents, and `vary` may change them at every step.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, NamedTuple, Self

import numpy as np
import torch
from pydantic import Field
from tokenizers import Tokenizer
from torch import Tensor, nn

from undiffuse.conditioners.thesaurus import Thesaurus
from undiffuse.core.conditioning import Conditioning
from undiffuse.core.errors import UsageError, explain
from undiffuse.core.random import BatchNoise
from undiffuse.core.spec import Spec
from undiffuse.data.records import Example
from undiffuse.networks.text.learned import LearnedWord

Fields = Mapping[str, Any]
Batched = Mapping[str, Tensor]
"""Readings by name, of a whole batch: (B, ...) each."""
Size = tuple[int, int]
"""Height and width of a latent."""


@dataclass(frozen=True)
class Surroundings:
    """What a part's sizes follow from: the codec's latents, the words of a data set, the tokens of the other parts."""

    channels: int
    factor: int
    labels: tuple[str, ...] = ()
    map_classes: tuple[str, ...] = ()
    box_labels: tuple[str, ...] = ()
    token_width: int | None = None


@dataclass(frozen=True)
class Sight:
    """The frozen nets that parts look at pictures through.

    `encode` takes pixels (B, 3, H, W) to normalised latents (B, C, h, w), `describe` to one feature vector each
    (B, D); `size` is the height and width in pixels of the picture that is steered. `noise` gives normal numbers of a shape
    to parts that draw from something noised; in training it is None, and `vary` noises anew at every step.
    """

    encode: Callable[[Tensor], Tensor]
    describe: Callable[[Tensor], Tensor]
    size: Size
    noise: Callable[[tuple[int, ...]], Tensor] | None = None


class Routes(NamedTuple):
    """Features of a token, features of the vector, channels of the map; 0 for a slot that stays empty."""

    tokens: int = 0
    vector: int = 0
    spatial: int = 0


class Word(NamedTuple):
    """Something that was said, and the places of the tokens that stand for it."""

    text: str
    places: tuple[int, ...]


class PartSpec(Spec, ABC):
    """Sizes of a part, and how often it was left out in training, so that guidance has something to compare with.

    What follows from the autoencoder or the data set may be left out of a recipe; `fitted` fills it in.
    """

    kind: Any  # every kind narrows it to a literal of its own
    drop: Annotated[float, Field(ge=0, le=1)] = 0.0

    @abstractmethod
    def routes(self) -> Routes:
        """Widths of what the part delivers on each route."""

    def fitted(self, surroundings: Surroundings) -> Self:
        """The spec with everything filled in that follows from where it is used.

        Raises:
            SpecError: when the surroundings lack what the part needs.
        """
        return self

    def going_on(self, asked: PartSpec) -> Self:
        """The spec with which training goes on when a recipe asks for this: sizes stay, `drop` is the recipe's."""
        return self.model_copy(update={"drop": asked.drop})

    @abstractmethod
    def build(self, tokenizer: Tokenizer | None) -> ConditionerPart:
        """The part with fresh weights.

        Raises:
            SpecError: when something is missing.
        """


class ConditionerPart(nn.Module, ABC):
    """One way of steering a model.

    `fields` names what a user may say, `readings` what `forward` reads of a row. The widths name what it
    delivers: features of a token, features of the vector, channels of the map; 0 where it leaves that slot
    empty. A row without its readings, or with None in them, gets the null: what the model learned to take for
    "nothing was said". `stored` tells that readings are arrays, to be kept with the latents; `guided` that
    guidance leaves the part out of what it steers away from; `needs` names fields without which nothing is drawn, if
    the part was never left out; `frozen` that its weights never learn; `classes` are the names that it knows, if any.
    `against` holds readings that negative prompts are told, whatever was said. `thesaurus` tells which words of a caption
    are read as others, if any.
    """

    fields: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    readings: ClassVar[tuple[str, ...]] = ()
    stored: ClassVar[bool] = True
    guided: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ()
    frozen: bool = False
    against: ClassVar[Fields] = {}
    thesaurus: Thesaurus | None = None
    token_width: int = 0
    vector_width: int = 0
    spatial_channels: int = 0
    _here: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.here_again()

    def here_again(self) -> None:
        """Be on the CPU, whatever the weights are on: for parts that are built without memory for them."""
        self.register_buffer("_here", torch.empty(0, device="cpu"), persistent=False)  # goes along where there are no weights

    @abstractmethod
    def forward(self, rows: Sequence[Fields], size: Size | None = None) -> Conditioning:
        """The conditioning of these rows on the device of the part, maps in the latent's `size`."""

    def null(self, count: int, size: Size | None = None) -> Conditioning:
        """The conditioning of `count` rows that say nothing."""
        return self(({},) * count, size)

    def show(self, example: Example, rng: np.random.Generator) -> dict[str, Any]:
        """What a user could have said of this example; fields of the same name by default."""
        told = {"caption": example.caption, "label": example.label, **example.fields}
        return {name: told.get(name) for name in self.fields}

    def read(self, given: Sequence[Fields], sight: Sight) -> list[dict[str, Any]]:
        """Readings of what was given, row by row; {} where nothing was. The same as given by default.

        Raises:
            DataError: when what was given is of no use.
        """
        return [{name: row[name] for name in self.readings if row.get(name) is not None} for row in given]

    def vary(self, readings: Batched, noise: BatchNoise) -> Batched:
        """The readings (B, ...) of one training step; the same at every step by default."""
        return readings

    def embed(self, readings: Batched, there: Tensor, size: Size) -> Conditioning:
        """What `forward` gives for a batch that is stacked already, as training has it: tensors where the nets are.

        By default rows are taken apart for `forward`. A part that does it in one go trains faster on a GPU.

        Args:
            readings: by name, (B, ...) each.
            there: (B,), which rows count; the others get the null.
            size: height and width of the latent.
        """
        said = there.tolist()
        return self([{name: v[row] for name, v in readings.items()} if said[row] else {} for row in range(len(said))], size)

    def text_encoders(self) -> Sequence[nn.Module]:
        """The text encoders that LoRAs and learned words know, in their order; none by default."""
        return ()

    def learn(self, word: LearnedWord) -> None:
        """Read a learned word from now on; only parts with such text encoders are asked to.

        Raises:
            ShapeMismatch: when it was made for text encoders of other widths.
            UsageError: when there is none.
        """
        raise UsageError(
            explain(f"the learned word {word.name!r}", "this part has no text encoder that takes words", "leave it out")
        )

    def forget(self) -> None:
        """Drop whatever is remembered of earlier rows; needed after weights were changed by hand."""

    def words(self, row: Fields) -> list[Word]:
        """What the tokens of this row stand for, in their order; marks and padding stand for nothing. None by default."""
        return []

    def read_as(self, caption: str) -> dict[str, str]:
        """The words of a caption that are read as others, and as what."""
        return {} if self.thesaurus is None else self.thesaurus.found(caption)

    def truncated(self, captions: Sequence[str]) -> list[bool]:
        """Which captions are too long to be read to their end; none by default."""
        return [False] * len(captions)

    @property
    def device(self) -> torch.device:
        """Where the part was moved to, with or without weights."""
        return self._here.device
