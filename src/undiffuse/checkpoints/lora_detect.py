"""What a LoRA file is and which Stable Diffusion it was made for, from names, shapes and header alone. Needs no torch."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

Shapes = Mapping[str, Sequence[int]]

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
KINDS = (("a DoRA", "dora_scale"), ("a LoHa", "hada_w1_a"), ("a LoKr", "lokr_w1"))
DOWN = re.compile(r"(lora_down|lora_A|lora\.down)(\.\w+)?\.weight$|hada_w1_b$|lokr_w[12]_b$")
"""The smaller factor of a term: its first side is the rank."""


def kind_of_lora(shapes: Shapes) -> str:
    """What to call it, with its ranks: "a LoRA of rank 16", "a LoHa of ranks 4 to 8"."""
    kind = next((kind for kind, mark in KINDS if any(mark in name for name in shapes)), "a LoRA")
    ranks = sorted({shape[0] for name, shape in shapes.items() if DOWN.search(name) and len(shape) > 1})
    if not ranks:
        return kind
    return f"{kind} of rank {ranks[0]}" if len(ranks) == 1 else f"{kind} of ranks {ranks[0]} to {ranks[-1]}"


def base_of_lora(shapes: Shapes, header: Mapping[str, str]) -> str | None:
    """The model that a file was made for, by its header, by its names, or by the width of tokens; None when nothing tells."""
    told = " ".join(header.get(key, "") for key in TOLD).lower()
    for pattern, base in BY_TEXT:
        if re.search(pattern, told):
            return base
    for pattern, base in BY_NAME:
        if any(re.search(pattern, name) for name in shapes):
            return base
    widths = {shape[1] for name, shape in shapes.items() if READS_TOKENS.search(name) and len(shape) > 1}
    return BY_TOKENS.get(min(widths)) if widths else None
