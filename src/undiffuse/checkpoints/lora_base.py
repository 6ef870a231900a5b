"""Which Stable Diffusion a model is, and what to say when a LoRA file was made for another."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from undiffuse.checkpoints.lora_detect import BY_TOKENS, base_of_lora
from undiffuse.networks.attention import TransformerBlock


def base_of_unet(unet: nn.Module) -> str | None:
    """The Stable Diffusion whose tokens a U-Net reads, by their width; None for other models."""
    layers = (block.attend_cross for block in unet.modules() if isinstance(block, TransformerBlock))
    widths = {layer.to_key.in_features for layer in layers if layer is not None}
    return BY_TOKENS.get(min(widths)) if widths else None


def mismatch(tensors: Mapping[str, Tensor], header: Mapping[str, str], nets: Mapping[str, nn.Module]) -> str:
    """What may be the matter with a file that does not fit these nets, as the last part of a message."""
    made_for = base_of_lora({name: tensor.shape for name, tensor in tensors.items()}, header)
    model = base_of_unet(nets["unet"]) if "unet" in nets else None
    if made_for is None or made_for == model:
        return "it may be no LoRA file, damaged, or made for another model"
    return f"it was made for {made_for}, and this model is {model or 'none of the Stable Diffusion family'}"
