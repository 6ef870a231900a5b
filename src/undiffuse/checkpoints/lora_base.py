"""Which Stable Diffusion a LoRA file was made for, and which a model is: what to say when the two do not fit."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor, nn

from undiffuse.networks.attention import TransformerBlock

SD1, SD2, XL = "Stable Diffusion 1.x", "Stable Diffusion 2.x", "Stable Diffusion XL"
BY_TOKENS = {768: SD1, 1024: SD2, 2048: XL}  # features of a token of context
TOLD = ("ss_base_model_version", "modelspec.architecture")
BY_TEXT = (
    (r"xl", XL),
    (r"sd_?3|stable-diffusion-3", "Stable Diffusion 3"),
    (r"flux", "FLUX"),
    (r"sd_?v?2|stable-diffusion-v2", SD2),
    (r"sd_?v?1|stable-diffusion-v1", SD1),
)
BY_NAME = (
    (r"lora_te2_|text_encoder_2|input_blocks", XL),
    (r"double_blocks|single_transformer_blocks", "FLUX"),
    (r"joint_blocks", "Stable Diffusion 3"),
)
READS_TOKENS = re.compile(r"attn2[._](processor[._])?to_k.*(lora_down|lora_A.*|down)\.weight$")


def base_of_lora(tensors: Mapping[str, Tensor], header: Mapping[str, str]) -> str | None:
    """The model that a file was made for, by its header, by its names, or by the width of tokens; None when nothing tells."""
    told = " ".join(header.get(key, "") for key in TOLD).lower()
    for pattern, base in BY_TEXT:
        if re.search(pattern, told):
            return base
    for pattern, base in BY_NAME:
        if any(re.search(pattern, name) for name in tensors):
            return base
    widths = {tensor.shape[1] for name, tensor in tensors.items() if READS_TOKENS.search(name) and tensor.ndim > 1}
    return BY_TOKENS.get(min(widths)) if widths else None


def base_of_unet(unet: nn.Module) -> str | None:
    """The Stable Diffusion whose tokens a U-Net reads, by their width; None for other models."""
    layers = (block.attend_cross for block in unet.modules() if isinstance(block, TransformerBlock))
    widths = {layer.to_key.in_features for layer in layers if layer is not None}
    return BY_TOKENS.get(min(widths)) if widths else None


def mismatch(tensors: Mapping[str, Tensor], header: Mapping[str, str], nets: Mapping[str, nn.Module]) -> str:
    """What may be the matter with a file that does not fit these nets, as the last part of a message."""
    made_for = base_of_lora(tensors, header)
    model = base_of_unet(nets["unet"]) if "unet" in nets else None
    if made_for is None or made_for == model:
        return "it may be no LoRA file, damaged, or made for another model"
    return f"it was made for {made_for}, and this model is {model or 'none of the Stable Diffusion family'}"
