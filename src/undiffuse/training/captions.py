"""Captions encoded once: states of the frozen text encoder for every caption of a latent cache, kept on disk."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from undiffuse.conditioners.text import TextConditioner
from undiffuse.core.conditioning import Conditioning
from undiffuse.data.records import Progress
from undiffuse.networks.sketcher import Sketcher, resized

BATCH = 128
FILE = "captions.safetensors"


@dataclass(frozen=True)
class CaptionCache:
    """Token states in float16, without their padding, and sketches, for captions by their number."""

    states: Tensor  # (T, D) all tokens of all captions, one after the other
    spans: Tensor  # (U, 2) first token and number of tokens of every caption
    numbers: dict[str, int]  # caption -> its row in `spans`
    length: int
    pooled: bool
    sketches: Tensor | None = None  # (U, C, h, w) in float16

    def __call__(self, captions: Iterable[str]) -> Conditioning:
        """The conditioning of these captions, as the text conditioner gives it up to float16 rounding."""
        return self.gather(torch.tensor([self.numbers[caption] for caption in captions]))

    def gather(self, numbers: Tensor, size: tuple[int, int] | None = None) -> Conditioning:
        """The conditioning of the captions with these numbers (B,), sketches at the `size` of the latent."""
        numbers = numbers.to(self.spans.device)
        starts, counts = self.spans[numbers].unbind(1)
        places = torch.arange(self.length, device=starts.device)
        mask = places < counts[:, None]  # (B, N)
        tokens = self.states[(starts[:, None] + places).clamp_max(len(self.states) - 1)].float() * mask[..., None]
        vector = tokens.sum(1) / mask.sum(1, keepdim=True) if self.pooled else None
        sketch = self.sketches[numbers].float() if self.sketches is not None else None
        sketch = sketch if sketch is None or size is None else resized(sketch, size)
        return Conditioning(tokens=tokens, token_mask=mask, vector=vector, spatial=sketch)

    def to(self, device: torch.device) -> CaptionCache:
        """The same where the nets are."""
        sketches = None if self.sketches is None else self.sketches.to(device)
        return replace(self, states=self.states.to(device), spans=self.spans.to(device), sketches=sketches)


def cache_captions(
    text: TextConditioner, captions: Iterable[str], folder: Path, progress: Progress | None = None
) -> CaptionCache:
    """Encode each different caption once, those of similar length together; a run that goes on finds them again.

    Args:
        text: a text conditioner with a frozen encoder.
        captions: repeated ones cost nothing.
        folder: where the states are kept.
        progress: told (captions done, captions in all, what) after every batch.
    """
    unique = sorted(set(captions), key=lambda caption: (len(caption), caption))
    path, digest = folder / FILE, digest_of(text, unique)
    kept = read_kept(path, digest)
    if kept is None:
        kept = _encode(text, unique, progress)
        write_kept(path, digest, kept)
    states, counts = kept["states"], kept["counts"]
    spans = torch.stack([counts.cumsum(0) - counts, counts], dim=1).long()
    numbers = {caption: number for number, caption in enumerate(unique)}
    bare = CaptionCache(states, spans, numbers, text.length, text.pooled)
    return bare if text.sketcher is None else replace(bare, sketches=_sketch(text.sketcher, bare, text.device))


@torch.no_grad()
def _sketch(sketcher: Sketcher, cache: CaptionCache, device: torch.device) -> Tensor:
    """The sketch (U, C, h, w) of every caption, in float16; made anew at every start, for that takes seconds."""
    sketches = []
    for numbers in torch.arange(len(cache.spans)).split(BATCH):
        cond = cache.gather(numbers).to(device)
        assert cond.tokens is not None and cond.token_mask is not None
        sketches.append(sketcher(cond.tokens, cond.token_mask).half().cpu())
    return torch.cat(sketches)


def _encode(text: TextConditioner, unique: list[str], progress: Progress | None) -> dict[str, Tensor]:
    """States (T, D) of all tokens, one caption after the other, and how many tokens each has."""
    states, counts = [], []
    for first in range(0, len(unique), BATCH):
        some = unique[first : first + BATCH]
        with torch.no_grad():
            tokens, mask = text.states(some)
        states.append(tokens[mask].half().cpu())
        counts.append(mask.sum(1).cpu())
        if progress is not None:
            progress(first + len(some), len(unique), "captions")
    return {"states": torch.cat(states), "counts": torch.cat(counts)}


def digest_of(text: TextConditioner, said: Sequence[str]) -> str:
    """What states follow from: what is said, the encoder, the length."""
    digest = hashlib.sha256(f"{text.length}\n{text.tokenizer.to_str()}\n".encode())
    digest.update("\n".join(said).encode())
    for name, tensor in text.encoder.state_dict().items():
        digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def read_kept(path: Path, digest: str) -> dict[str, Tensor] | None:
    """The tensors in this file, if it keeps those of this digest."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, "pt") as file:
            if (file.metadata() or {}).get("digest") != digest:
                return None
            return {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError):
        return None


def write_kept(path: Path, digest: str, tensors: dict[str, Tensor]) -> None:
    """Keep tensors that follow from what has this digest; the file appears whole or not at all."""
    partial = path.with_name(path.name + ".part")
    save_file(tensors, partial, {"digest": digest})
    os.replace(partial, path)
