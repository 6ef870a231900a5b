"""`ConditionerPart`: from raw fields of a row (caption, label, ...) to some slots of a `Conditioning`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from undiffuse.core.conditioning import Conditioning

Fields = Mapping[str, Any]


class ConditionerPart(nn.Module, ABC):
    """One way of steering a model.

    `fields` names what it reads of a row. The widths name what it delivers: features of a token, features
    of the vector, channels of the map; 0 where it leaves that slot empty. A row without its field, or with
    None in it, gets the null: what the model learned to take for "nothing was said".
    """

    fields: tuple[str, ...] = ()
    token_width: int = 0
    vector_width: int = 0
    spatial_channels: int = 0

    @abstractmethod
    def forward(self, rows: Sequence[Fields]) -> Conditioning:
        """The conditioning of these rows, on the device of the part."""

    def null(self, count: int) -> Conditioning:
        """The conditioning of `count` rows that say nothing."""
        return self(({},) * count)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next((p.device for p in self.parameters()), torch.device("cpu"))
