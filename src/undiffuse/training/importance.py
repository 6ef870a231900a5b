"""How much each channel of a latent changes the picture."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor

from undiffuse.core.random import normal
from undiffuse.data.atomic import write_text
from undiffuse.data.latents import LatentCache
from undiffuse.model.codec import Codec

FILE = "importance.json"
PICTURES = 64
BATCH = 16
SHARE = 0.3  # of a channel's deviation: small enough that the decoder answers nearly linearly
LEAST = 1e-3  # what a channel counts that changes nothing: its scale must not be 0


def kept_importance(codec: Codec, cache: LatentCache, folder: Path) -> Tensor:
    """The importance of each channel (C,), measured once for a folder of latents: a run that goes on finds the same numbers.

    Measured again it could differ in the last bits, with other threads or on another device.
    """
    path = folder / FILE
    if path.is_file():
        return torch.tensor(json.loads(path.read_text(encoding="utf-8")), dtype=torch.float32)
    measured = channel_importance(codec, cache)
    write_text(path, json.dumps(measured.tolist()))
    return measured


@torch.no_grad()
def channel_importance(codec: Codec, cache: LatentCache) -> Tensor:
    """Root mean square change of pixels (C,) when noise of equal share is added to one channel; 1 for the largest, above 0.

    Measured on latents of the data set, spread evenly over it, one channel at a time.
    """
    count = min(PICTURES, len(cache))
    indices = [place * len(cache) // count for place in range(count)]
    changes = torch.zeros(codec.channels, dtype=torch.float64)
    for start in range(0, count, BATCH):
        some = indices[start : start + BATCH]
        latents = cache.latents(some, [0] * len(some)).to(codec.device)
        plain = codec.autoencoder.decode(latents).float()
        for channel in range(codec.channels):
            noise = normal(latents[:, channel].shape, "importance", channel, start).to(codec.device)
            moved = latents.clone()
            moved[:, channel] += SHARE * cache.std[channel].to(codec.device) * noise
            changes[channel] += (codec.autoencoder.decode(moved).float() - plain).square().mean().item() * len(some)
    return (changes / changes.max().clamp_min(torch.finfo(torch.float64).tiny)).sqrt().clamp_min(LEAST).float()
