"""A trained U-Net that is to read more than it has learned: new inputs, all of their weights zero."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from undiffuse.core.errors import SpecError, explain

GROWING = ("first.weight", "embed_vector.0.weight")
"""Weights (out, in, ...) whose inputs may become more: the latent with its maps, and the vector."""


def grow_into(net: nn.Module, trained: nn.Module) -> None:
    """Load a trained U-Net into a larger one, in place, so that at first it answers as the trained one does.

    Inputs that the trained net does not have get zero weights, as Stable Diffusion's inpainting model was begun.
    Channels and features that it has must come first.

    Raises:
        SpecError: when the nets differ in anything else.
    """
    old, state = trained.state_dict(), net.state_dict()
    other = sorted(old.keys() - state.keys()) or [key for key, value in old.items() if not _fits(key, value, state[key])]
    if other:
        raise SpecError(explain(f"{other[0]} does not fit the model to start from", "only more inputs can be added"))
    with torch.no_grad():
        for key, target in state.items():
            if key not in old:
                continue  # a way in that the trained net lacks altogether
            target.zero_()
            target[:, : old[key].shape[1]].copy_(old[key]) if key in GROWING else target.copy_(old[key])
        for key in state.keys() - old.keys():
            if key.startswith(("embed_vector.2.", "embed_vector.weight")) or ".attend_cross.to_out." in key:
                state[key].zero_()  # the last layer of a new way in: nothing is added at first


def _fits(key: str, old: Tensor, new: Tensor) -> bool:
    if key in GROWING:
        return old.shape[0] == new.shape[0] and old.shape[1] <= new.shape[1] and old.shape[2:] == new.shape[2:]
    return old.shape == new.shape
