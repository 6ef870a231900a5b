"""How much memory a model may take: all weights where the work is done, or each layer's only while it works."""

from __future__ import annotations

import torch

from undiffuse.core.devices import free_bytes
from undiffuse.core.errors import UsageError, explain
from undiffuse.model.latent_diffusion import LatentDiffusion

PLENTY, LOW = "plenty", "low"
WAYS = (PLENTY, LOW)
LARGEST_SHARE = 0.8  # of what is free; the rest is for activations


def choose_memory(model: LatentDiffusion, device: torch.device, dtype: torch.dtype, name: str | None = None) -> str:
    """The way of this name; for None or "auto" "plenty" where the weights fit by far, else "low".

    Raises:
        UsageError: for an unknown name.
    """
    if name in WAYS:
        return str(name)
    if name not in (None, "auto"):
        raise UsageError(explain(f"memory = {name!r}", f"allowed are auto, {', '.join(WAYS)}"))
    held, needed = _bytes(model, None), _bytes(model, dtype)
    free = free_bytes(device)
    if device.type == "cpu":
        return LOW if free and needed - held > LARGEST_SHARE * free else PLENTY
    return LOW if free and needed > LARGEST_SHARE * free else PLENTY


def _bytes(model: LatentDiffusion, dtype: torch.dtype | None) -> int:
    """What the weights of denoiser and codec take, as they are or in a type."""
    weights = [weight for net in (model.codec, model.denoiser) for weight in net.parameters()]
    return sum(weight.numel() * (weight.dtype if dtype is None else dtype).itemsize for weight in weights)
