"""What a model wore when it drew a picture: its LoRAs, the learned words that the prompts name, another's autoencoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from undiffuse.generation.request import Request
from undiffuse.model.latent_diffusion import LatentDiffusion
from undiffuse.networks.text.learned import split_at

SHORT_HASH, MODEL_HASH = 12, 10  # digits that other programs write, of LoRAs and of models


@dataclass(frozen=True)
class Addition:
    """One LoRA, learned word or autoencoder: name, hash, and how much it counts in the U-Net and in the text encoders."""

    kind: Literal["lora", "word", "vae"]
    name: str
    hash: str
    weight: float = 1.0
    text_weight: float = 1.0

    def __str__(self) -> str:
        weights = f"{self.text_weight:g}" if self.text_weight == self.weight else f"{self.text_weight:g}:{self.weight:g}"
        return f"<lora:{self.name}:{weights}>" if self.kind == "lora" else self.name


def additions(request: Request, model: LatentDiffusion) -> tuple[Addition, ...]:
    """Every LoRA that counts, and every learned word in the prompts, as they are right now."""
    worn = model.adapters.loras.values()
    loras = [Addition("lora", lora.name, lora.hash, *weights) for lora, weights in worn if any(weights)]
    said = {name for text in (request.prompt, request.negative) for name in split_at(text, model.adapters.words)[1::2]}
    words = [Addition("word", name, word.hash) for name, word in model.adapters.words.items() if name in said]
    vae = model.adapters.vae
    return (*loras, *words, *([Addition("vae", vae.name, vae.hash)] if vae else ()))


def tags(request: Request, given: tuple[Addition, ...]) -> str:
    """The LoRAs as other programs write them in prompts: "<lora:NAME:0.8>", those that the prompt does not name itself."""
    loras = [one for one in given if one.kind == "lora" and f"<lora:{one.name}:" not in request.prompt]
    return "".join(f" {one}" for one in loras)


def hashes(given: tuple[Addition, ...]) -> dict[str, str]:
    """The pairs "VAE", "VAE hash", "Lora hashes" and "TI hashes" of A1111's text; without entries a pair is left out."""
    told: dict[str, str] = {}
    for one in given:
        if one.kind == "vae":
            told |= {"VAE hash": one.hash[:MODEL_HASH], "VAE": _plain(one.name)}
    for key, kind in (("Lora hashes", "lora"), ("TI hashes", "word")):
        rows = [f"{_plain(one.name)}: {one.hash[:SHORT_HASH]}" for one in given if one.kind == kind]
        if rows:
            told[key] = ", ".join(rows)
    return told


def _plain(name: str) -> str:
    """A name without the letters that part entries."""
    return name.replace(":", "").replace(",", "")
