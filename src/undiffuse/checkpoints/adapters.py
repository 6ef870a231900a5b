"""`add_lora`, `add_embedding` and what is built on them: files of users onto a model, whole or not at all."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from undiffuse.checkpoints.embeddings import read_words
from undiffuse.checkpoints.foreign_tensors import READ
from undiffuse.checkpoints.lora_files import read_lora
from undiffuse.core.errors import CheckpointError, UsageError, explain
from undiffuse.model.adapters import Weights
from undiffuse.model.latent_diffusion import LatentDiffusion


@dataclass(frozen=True)
class WornLora:
    """A LoRA that a model wears: to let it count more or less, or to take it off."""

    model: LatentDiffusion
    name: str

    @property
    def weights(self) -> Weights:
        """How much it counts in the U-Net, and in the text encoders."""
        return self.model.adapters.loras[self.name].weights

    def set_weight(self, weight: float, text_weight: float | None = None) -> None:
        """Let it count more or less, in the text encoders too if no other weight is named for them; 0 is not at all."""
        self.model.adapters.set_weight(self.name, weight, text_weight)

    def take_off(self) -> None:
        """Remove it; nothing of it stays in the model."""
        self.model.adapters.take_off(self.name)


@dataclass(frozen=True)
class LoraUse:
    """A file, and how much it shall count in the U-Net and in the text encoders."""

    path: Path
    weight: float = 1.0
    text_weight: float | None = None


def add_lora(
    model: LatentDiffusion,
    path: str | Path,
    weight: float = 1.0,
    text_weight: float | None = None,
    name: str | None = None,
) -> WornLora:
    """Have a model wear a LoRA, LoHa or LoKr: kohya's, diffusers', PEFT's and LyCORIS's files are read.

    Args:
        model: its own weights stay what they are.
        path: the file.
        weight: how much it counts; 0 is not at all, below 0 the other way.
        text_weight: another weight for the text encoders.
        name: what to call it; the name of the file by default.

    Raises:
        CheckpointError: when the file cannot be read, or does not fit the model in every part.
        UsageError: when one of this name is worn already.
    """
    lora = read_lora(path, model.adapters.nets(), name)
    model.adapters.wear(lora, weight, text_weight)
    return WornLora(model, lora.name)


def add_embedding(model: LatentDiffusion, path: str | Path, name: str | None = None) -> tuple[str, ...]:
    """Have a model know the learned words in a file; the names that prompts call them by.

    Args:
        model: a word of this name that it knows already is replaced.
        path: a file of textual inversion: A1111's, diffusers', or one for Stable Diffusion XL.
        name: what to call the word; its own name in diffusers' files, else that of the file.

    Raises:
        CheckpointError: when the file cannot be read, or was made for text encoders of other widths.
        UsageError: when the model reads no words.
    """
    words = read_words(path, name)
    for word in words:
        model.adapters.learn(word)
    return tuple(word.name for word in words)


def add_embeddings(model: LatentDiffusion, folder: Path) -> dict[str, str]:
    """Have a model know every learned word in a folder that was made for it; why not, by file, for the others."""
    refused = {}
    for path in sorted(path for path in folder.iterdir() if path.suffix.lower() in READ and path.is_file()):
        try:
            add_embedding(model, path)
        except (CheckpointError, UsageError) as error:
            refused[path.name] = str(error)
    return refused


def set_loras(model: LatentDiffusion, uses: Iterable[LoraUse]) -> None:
    """Have a model wear these LoRAs and no others. Those that it wears already are not read again.

    Raises:
        CheckpointError: when a file does not fit; then the model wears what it wore before.
        UsageError: when two files have one name.
    """
    wanted = list(uses)
    names = [use.path.stem for use in wanted]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(explain(f"two LoRAs of the name {twice!r}", "a name is taken once", "rename one of the files"))
    adapters = model.adapters
    worn = {lora.path: lora for lora, _ in adapters.loras.values()}
    loras = [worn.get(str(use.path)) or read_lora(use.path, adapters.nets()) for use in wanted]
    for name in adapters.loras:
        adapters.take_off(name)
    for lora, use in zip(loras, wanted, strict=True):
        adapters.wear(lora, use.weight, use.text_weight)
