"""`Shelf`: all that batches of stage two are made of, where the nets are, so that a GPU waits for nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from undiffuse.conditioners.base import Batched, ConditionerPart, Size
from undiffuse.conditioners.labels import LabelConditioner
from undiffuse.conditioners.text import TextConditioner
from undiffuse.core.conditioning import Conditioning
from undiffuse.data.latents import LatentCache
from undiffuse.data.readings import Readings
from undiffuse.data.resident import Resident, room_on
from undiffuse.training.captions import CaptionCache


class Shelf:
    """Latents, captions, labels and readings by their place: rendering v of picture i lies at i * V + v, cache after cache.

    Args:
        caches: latents, captions and labels, of one data set each.
        captions: encodes captions of all caches; None without text.
        readings: of every cache, what is shown of its renderings to parts that keep arrays; empty when no part does.
        parts: the conditioners by kind.
        device: where the nets are.
    """

    def __init__(
        self,
        caches: Sequence[LatentCache],
        captions: CaptionCache | None,
        readings: Sequence[Readings],
        parts: Mapping[str, ConditionerPart],
        device: torch.device,
    ) -> None:
        self.parts = parts
        self.device = device
        self.said = [caption for cache in caches for row in cache.captions for caption in row]
        self.labels = [label for cache in caches for label in cache.labels for _ in range(cache.variants)]
        counts = [len(cache) * cache.variants for cache in caches]
        firsts = [sum(counts[:place]) for place in range(len(counts))]
        arrays = {"": dict(zip(firsts, (cache.array for cache in caches), strict=True))}
        for first, shown in zip(firsts, readings, strict=bool(readings)):
            for name, array in shown.arrays.items():
                arrays.setdefault(name, {})[first] = array
        room = room_on(device)
        self._arrays: dict[str, Resident] = {}
        for name, some in arrays.items():
            self._arrays[name] = Resident(some, device, room)
            room -= self._arrays[name].bytes
        flags: dict[str, Tensor] = {}
        for first, count, shown in zip(firsts, counts, readings, strict=bool(readings)):
            for name, there in shown.there.items():
                all_there = flags.setdefault(name, torch.zeros(len(self), dtype=torch.bool))
                all_there[first : first + count] = torch.from_numpy(np.array(there)).flatten() > 0
        self._there = {kind: self._flags(part, flags).to(device) for kind, part in parts.items()}
        self._captions = captions.to(device) if captions is not None else None
        if captions is not None:
            numbers = [captions.numbers[caption] for caption in self.said]
            self._numbers, self._unsaid = torch.tensor(numbers, device=device), captions.numbers[""]
        label = parts.get("label")
        if isinstance(label, LabelConditioner):
            rows = [label.index(name) if name in label.classes else 0 for name in self.labels]
            self._rows = torch.tensor(rows, device=device)

    def __len__(self) -> int:
        return len(self.said)

    def latents(self, places: Tensor) -> Tensor:
        """Latents (B, C, h, w) in float32, as encoded."""
        return self._arrays[""](places).float()

    def there(self, kind: str, places: Tensor) -> Tensor:
        """Whether the renderings have what this kind of conditioner reads, (B,)."""
        return self._there[kind][places]

    def readings(self, kind: str, places: Tensor) -> Batched:
        """What is kept for this kind, (B, ...) by name; nothing when no picture of the set has it."""
        names = self.parts[kind].readings if self.parts[kind].stored else ()
        return {name: self._arrays[name](places) for name in names if name in self._arrays}

    def cond(self, kind: str, places: Tensor, said: Tensor, readings: Batched, size: Size) -> Conditioning:
        """The conditioning of one part; rows that are not `said` (B,) get its null."""
        part = self.parts[kind]
        if isinstance(part, TextConditioner) and self._captions is not None:
            return self._captions.gather(torch.where(said, self._numbers[places], self._unsaid), size)
        if isinstance(part, LabelConditioner):
            return part.embed({"label": self._rows[places]}, said, size)
        if part.stored:
            return part.embed(readings, said, size) if readings else part.null(len(places), size)
        told = zip(places.tolist(), said.tolist(), strict=True)
        return part([self._words(place) if row_said else {} for place, row_said in told], size)

    def _words(self, place: int) -> dict[str, str | None]:
        """What is known in words of a rendering."""
        return {"caption": self.said[place], "label": self.labels[place], "grammar": "plain"}

    def _flags(self, part: ConditionerPart, flags: Mapping[str, Tensor]) -> Tensor:
        """Where (N * V,) a part has all that it reads; a label counts if the model has such a class."""
        if isinstance(part, LabelConditioner):
            known = set(part.classes)
            return torch.tensor([label in known for label in self.labels])
        there = torch.ones(len(self), dtype=torch.bool)
        for name in part.readings if part.stored else ():
            there &= flags.get(name, torch.zeros_like(there))
        return there
