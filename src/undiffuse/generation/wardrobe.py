"""`Wardrobe`: a model wears the LoRAs that a prompt names, for as long as pictures of that prompt are drawn."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from undiffuse.checkpoints.lora_files import read_lora
from undiffuse.checkpoints.lora_folder import LoraFolder
from undiffuse.core.errors import SpecError, explain
from undiffuse.generation.lora_tags import Tag
from undiffuse.model.adapters import Lora, Weights
from undiffuse.model.latent_diffusion import LatentDiffusion

KEPT = 4  # LoRAs that are not read again when they are named next


class Wardrobe:
    """The LoRAs of a folder for one model. What it wears besides stays on; one of the same name is weighed anew meanwhile.

    Args:
        model: what wears them.
        folder: where they are; None where there are none.
    """

    def __init__(self, model: LatentDiffusion, folder: LoraFolder | None = None) -> None:
        self.model = model
        self.folder = folder
        self._on: tuple[Tag, ...] = ()
        self._before: dict[str, Weights] = {}
        self._kept: OrderedDict[tuple[str, Path, int], Lora] = OrderedDict()

    def check(self, tags: tuple[Tag, ...]) -> None:
        """Refuse names that are not there, before anything is drawn.

        Raises:
            SpecError: when there is no folder, and the model does not wear what is named.
            UsageError: when the folder has none of a name.
        """
        for tag in tags:
            if tag.name not in self.model.adapters.loras:
                self._found(tag.name)

    def wear(self, tags: tuple[Tag, ...] = ()) -> None:
        """Have the model wear these, and no others of the folder.

        Raises:
            CheckpointError: when one cannot be read or does not fit; then none of them is worn.
            SpecError, UsageError: as `check`.
        """
        if tags == self._on:
            return
        self._take_off()
        adapters = self.model.adapters
        try:
            for tag in tags:
                if tag.name in adapters.loras:
                    self._before[tag.name] = adapters.loras[tag.name].weights
                    adapters.set_weight(tag.name, tag.weight, tag.text_weight)
                else:
                    adapters.wear(self._lora(tag.name), tag.weight, tag.text_weight)
                self._on = (*self._on, tag)
        except Exception:
            self._take_off()
            raise

    @contextmanager
    def worn(self, tags: tuple[Tag, ...]) -> Iterator[None]:
        """Wear these inside, and again what was worn before behind it.

        Raises:
            CheckpointError, SpecError, UsageError: as `wear`.
        """
        before = self._on
        self.wear(tags)
        try:
            yield
        finally:
            self.wear(before)

    def _take_off(self) -> None:
        for tag in self._on:
            if tag.name in self._before:
                self.model.adapters.set_weight(tag.name, *self._before.pop(tag.name))
            else:
                self.model.adapters.take_off(tag.name)
        self._on = ()

    def _lora(self, name: str) -> Lora:
        path = self._found(name)
        key = name, path, path.stat().st_mtime_ns  # a file that was written anew is read anew
        lora = self._kept.pop(key, None) or read_lora(path, self.model.adapters.nets(), name)
        self._kept[key] = lora  # the youngest stands last
        if len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return lora

    def _found(self, name: str) -> Path:
        if self.folder is None:
            remedy = "name the folder that has it: --lora-dir DIR, Generator(model, lora_dir=DIR)"
            raise SpecError(explain(f"<lora:{name}> in the prompt", "no folder of LoRAs was named", remedy))
        return self.folder.find(name)
