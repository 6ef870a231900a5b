"""Names of CLIP text encoders' tensors: ours, Hugging Face's and OpenCLIP's.

SD 1.x files hold Hugging Face's with a leading `text_model.`, transformers 5 writes them without; SD 2.x and the
larger encoder of XL are in OpenCLIP's layout, with query, key and value in one tensor.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from undiffuse.core.errors import MissingKeys, explain

HUGGINGFACE = {
    "words": "embeddings.token_embedding",
    "positions": "embeddings.position_embedding",
    "norm": "final_layer_norm",
    "norm_attend": "layer_norm1",
    "attend.to_query": "self_attn.q_proj",
    "attend.to_key": "self_attn.k_proj",
    "attend.to_value": "self_attn.v_proj",
    "attend.to_out": "self_attn.out_proj",
    "norm_feed": "layer_norm2",
    "feed.widen": "mlp.fc1",
    "feed.narrow": "mlp.fc2",
}
OPENCLIP = {
    "norm_attend": "ln_1",
    "attend.to_out": "attn.out_proj",
    "norm_feed": "ln_2",
    "feed.widen": "mlp.c_fc",
    "feed.narrow": "mlp.c_proj",
}
OPENCLIP_ENDS = {
    "words.weight": "token_embedding.weight",
    "positions.weight": "positional_embedding",
    "norm.weight": "ln_final.weight",
    "norm.bias": "ln_final.bias",
}
FUSED = ("to_query", "to_key", "to_value")
PROJECTION, SHARED = "projection.weight", "text_projection"
UNUSED = ("position_ids", "logit_scale", "attn_mask")


def huggingface_names(layers: int, projection: bool) -> dict[str, str]:
    """Hugging Face's names by ours, without `text_model.`; every tensor is the same in both."""
    found = {f"{name}.weight": f"{HUGGINGFACE[name]}.weight" for name in ("words", "positions")}
    found |= {f"norm.{kind}": f"{HUGGINGFACE['norm']}.{kind}" for kind in ("weight", "bias")}
    inside = {ours: theirs for ours, theirs in HUGGINGFACE.items() if ours not in ("words", "positions", "norm")}
    for layer in range(layers):
        for ours, theirs in inside.items():
            found |= {f"layers.{layer}.{ours}.{kind}": f"encoder.layers.{layer}.{theirs}.{kind}" for kind in ("weight", "bias")}
    return found | ({PROJECTION: f"{SHARED}.weight"} if projection else {})


def from_huggingface(tensors: Mapping[str, Tensor], projection: bool | None = None) -> dict[str, Tensor]:
    """A text encoder in Hugging Face's layout, with or without `text_model.`, in our names.

    `projection` tells whether ours has one; as the tensors have it when left out.

    Raises:
        MissingKeys: listing the tensors that are missing and those that there is no place for.
    """
    plain = {name.removeprefix("text_model."): tensor for name, tensor in tensors.items() if not name.endswith(UNUSED)}
    layers = len({name.split(".")[2] for name in plain if name.startswith("encoder.layers.")})
    if projection is False:
        plain.pop(f"{SHARED}.weight", None)
    names = huggingface_names(layers, projection or f"{SHARED}.weight" in plain)
    check_names(set(plain), set(names.values()), "a CLIP text encoder")
    return {ours: plain[theirs] for ours, theirs in names.items()}


def to_huggingface(tensors: Mapping[str, Tensor], leading: str = "text_model.") -> dict[str, Tensor]:
    """Our text encoder in Hugging Face's layout."""
    layers = len({name.split(".")[1] for name in tensors if name.startswith("layers.")})
    names = huggingface_names(layers, PROJECTION in tensors)
    return {(name if name.startswith(SHARED) else leading + name): tensors[ours] for ours, name in names.items()}


def from_openclip(tensors: Mapping[str, Tensor], projection: bool) -> dict[str, Tensor]:
    """A text encoder in OpenCLIP's layout in our names; `projection` tells whether ours has one (SD 2.x files hold it unused).

    Raises:
        MissingKeys: listing the tensors that are missing and those that there is no place for.
    """
    plain = {name: tensor for name, tensor in tensors.items() if not name.endswith(UNUSED) and not name.startswith("visual.")}
    layers = len({name.split(".")[2] for name in plain if name.startswith("transformer.resblocks.")})
    wanted = set(OPENCLIP_ENDS.values()) | ({SHARED} if projection or SHARED in plain else set())
    for layer in range(layers):
        block = f"transformer.resblocks.{layer}"
        wanted |= {f"{block}.{theirs}.{kind}" for theirs in OPENCLIP.values() for kind in ("weight", "bias")}
        wanted |= {f"{block}.attn.in_proj_{kind}" for kind in ("weight", "bias")}
    check_names(set(plain), wanted, "an OpenCLIP text encoder")
    found = {ours: plain[theirs] for ours, theirs in OPENCLIP_ENDS.items()}
    for layer in range(layers):
        block = f"transformer.resblocks.{layer}"
        for kind in ("weight", "bias"):
            found |= {f"layers.{layer}.{ours}.{kind}": plain[f"{block}.{theirs}.{kind}"] for ours, theirs in OPENCLIP.items()}
            parts = plain[f"{block}.attn.in_proj_{kind}"].chunk(3)
            found |= {f"layers.{layer}.attend.{ours}.{kind}": part for ours, part in zip(FUSED, parts, strict=True)}
    return found | ({PROJECTION: plain[SHARED].T.contiguous()} if projection else {})


def to_openclip(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our text encoder in OpenCLIP's layout."""
    found = {theirs: tensors[ours] for ours, theirs in OPENCLIP_ENDS.items()}
    for layer in range(len({name.split(".")[1] for name in tensors if name.startswith("layers.")})):
        block = f"transformer.resblocks.{layer}"
        for kind in ("weight", "bias"):
            found |= {f"{block}.{theirs}.{kind}": tensors[f"layers.{layer}.{ours}.{kind}"] for ours, theirs in OPENCLIP.items()}
            fused = torch.cat([tensors[f"layers.{layer}.attend.{part}.{kind}"] for part in FUSED])
            found[f"{block}.attn.in_proj_{kind}"] = fused
    return found | ({SHARED: tensors[PROJECTION].T.contiguous()} if PROJECTION in tensors else {})


def check_names(there: set[str], wanted: set[str], what: str, shown: int = 8) -> None:
    """Refuse to load in part.

    Raises:
        MissingKeys: listing what is missing and what is too many.
    """
    missing, extra = sorted(wanted - there), sorted(there - wanted)
    if missing or extra:
        told = [
            f"{word}: {', '.join(names[:shown])}" + (f" and {len(names) - shown} more" if len(names) > shown else "")
            for word, names in (("missing", missing), ("unknown", extra))
            if names
        ]
        raise MissingKeys(explain("; ".join(told), f"the tensors of {what} are expected, all of them and no others"))
