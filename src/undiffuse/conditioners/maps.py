"""`MapConditioner`: a semantic map, one class a pixel, beside the latent (Rombach et al. 2022, section 4.3.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

import numpy as np
import torch
from pydantic import Field
from tokenizers import Tokenizer
from torch import Tensor, nn

from undiffuse.conditioners.base import Batched, ConditionerPart, Fields, PartSpec, Routes, Sight, Size, Surroundings
from undiffuse.core.conditioning import Conditioning
from undiffuse.core.errors import DataError, SpecError, explain
from undiffuse.data.records import Example


class MapSpec(PartSpec):
    """A map of `classes`, brought to the latent's size by "resize" (class shares) or by a "learned" projection of them."""

    kind: Literal["map"] = "map"
    classes: tuple[str, ...] = ()
    factor: Annotated[int, Field(ge=0)] = 0
    how: Literal["resize", "learned"] = "learned"
    width: Annotated[int, Field(ge=1)] = 8

    def routes(self) -> Routes:
        """The projection, or a share for every class and one channel more."""
        return Routes(spatial=self.width if self.how == "learned" else len(self.classes) + 1)

    def fitted(self, surroundings: Surroundings) -> Self:
        """With the classes of the data set's maps, and the factor of the autoencoder.

        Raises:
            SpecError: when the data set has no maps.
        """
        if not (self.classes or surroundings.map_classes):
            given = "a conditioner of kind 'map', but the data set has no maps"
            raise SpecError(explain(given, "a .map.png beside each picture and a map_classes.txt are needed"))
        classes = self.classes or surroundings.map_classes
        return self.model_copy(update={"classes": classes, "factor": surroundings.factor})

    def build(self, tokenizer: Tokenizer | None) -> MapConditioner:
        """The part with a fresh projection."""
        return MapConditioner(self.classes, self.factor, self.width if self.how == "learned" else None)


class MapConditioner(ConditionerPart):
    """Reads `layout`: class indices (H, W) in pixels, -1 or 255 where nothing is said.

    Every latent position gets the share of its f x f pixels that each class covers, and a channel that is 1
    where a map was given at all; a learned 1x1 convolution may follow. That is the paper's rescaler (bilinear
    halving of one-hot maps, then 1x1 convolution) in one step. The null has no share of any class.

    Args:
        classes: names, in the order of their indices.
        factor: pixels on a side for one latent position.
        width: channels of the learned projection; None for the shares themselves.
    """

    fields = ("layout",)
    readings = ("layout",)

    def __init__(self, classes: Sequence[str], factor: int, width: int | None) -> None:
        super().__init__()
        if not classes or factor < 1:
            raise SpecError(explain(f"{len(classes)} classes, factor = {factor}", "at least 1 of both is needed"))
        self.classes = tuple(classes)
        self.factor = factor
        shares = len(self.classes) + 1
        self.project = nn.Conv2d(shares, width, 1) if width else None
        self.spatial_channels = width or shares

    def knowing(self, classes: Sequence[str]) -> MapConditioner:
        """The same part for maps of other classes: what a class of the same name does stays, the others begin with nothing.

        Raises:
            SpecError: without a projection, for then every class is a channel that a U-Net has learned.
        """
        if self.project is None:
            given = f"maps of {len(classes)} classes for a model of {len(self.classes)} that reads their shares as they are"
            raise SpecError(explain(given, f"it knows {', '.join(self.classes)}", "use maps of these"))
        other = MapConditioner(classes, self.factor, self.spatial_channels).to(self.device)
        assert other.project is not None and other.project.bias is not None and self.project.bias is not None
        known = (*self.classes, None)  # the last share tells that there is a map at all
        with torch.no_grad():
            other.project.weight.zero_()
            other.project.bias.copy_(self.project.bias)
            for place, name in enumerate((*classes, None)):
                if name in known:
                    other.project.weight[:, place] = self.project.weight[:, known.index(name)]
        return other

    def forward(self, rows: Sequence[Fields], size: Size | None = None) -> Conditioning:
        """The map (B, K, h, w)."""
        maps = [row.get("layout") for row in rows]
        known = [torch.as_tensor(value).long() for value in maps if value is not None]
        if not known and size is None:
            raise SpecError(explain("rows without a map, and no size", "the size of the latent is needed"))
        side = tuple(value // self.factor for value in known[0].shape) if known else size
        given = iter(known)
        empty = torch.zeros(len(self.classes) + 1, *side)  # type: ignore[misc]
        shares = torch.stack([empty if value is None else self._shares(next(given)[None])[0] for value in maps])
        return self._projected(shares.to(self.device))

    def embed(self, readings: Batched, there: Tensor, size: Size) -> Conditioning:
        """The same for class indices (B, H, W)."""
        return self._projected(self._shares(readings["layout"].long()) * there[:, None, None, None])

    def _projected(self, shares: Tensor) -> Conditioning:
        return Conditioning(spatial=shares if self.project is None else self.project(shares.to(self.project.weight.dtype)))

    def _shares(self, indices: Tensor) -> Tensor:
        """Shares (B, K + 1, h, w) of class indices (B, H, W)."""
        count, unsaid = len(self.classes) + 1, len(self.classes)
        here = indices.device
        rows, columns = (torch.arange(side, device=here) // self.factor for side in indices.shape[1:])
        height, width = (-(-side // self.factor) for side in indices.shape[1:])
        cells = (torch.arange(len(indices), device=here)[:, None, None] * height + rows[:, None]) * width + columns  # (B, H, W)
        known = torch.where((indices >= 0) & (indices < unsaid), indices, unsaid)  # (B, H, W)
        pixels = torch.bincount((cells * count + known).flatten(), minlength=len(indices) * height * width * count)
        shares = pixels.view(-1, height, width, count).permute(0, 3, 1, 2) / self.factor**2  # (B, K + 1, h, w)
        shares[:, unsaid] = 1  # a map was given
        return shares

    def show(self, example: Example, rng: np.random.Generator) -> dict[str, Any]:
        """The map of the example, if it has one."""
        return {"layout": example.fields.get("map")}

    def read(self, given: Sequence[Fields], sight: Sight) -> list[dict[str, Any]]:
        """Class indices (H, W) as bytes, 255 where nothing is said.

        Raises:
            DataError: when an index names no class.
        """
        return [{} if row.get("layout") is None else {"layout": self._checked(row["layout"])} for row in given]

    def _checked(self, layout: Any) -> Tensor:
        indices = torch.as_tensor(layout).long()
        indices = torch.where(indices < 0, 255, indices)
        wrong = indices[(indices >= len(self.classes)) & (indices != 255)]
        if len(wrong):
            last = f"0 {self.classes[0]} to {len(self.classes) - 1} {self.classes[-1]}, 255 for anything"
            raise DataError(explain(f"class {int(wrong[0])} in the map", f"this model knows {last}"))
        return indices.to(torch.uint8)
