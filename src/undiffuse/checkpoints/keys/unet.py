"""Names of the U-Net's tensors: ours, those of the original code (CompVis, Stability AI) and those of diffusers.

The original counts what follows each other: `input_blocks.0` is the first convolution, then every stage and every
halving has a number of its own. diffusers goes by levels, as we do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from undiffuse.checkpoints.keys.modules import RESIDUAL, TRANSFORMER, rename_all

Prefixes = dict[str, tuple[str, Mapping[str, str]]]

ENDS = {
    "compvis": {
        "embed_time.mlp": ("time_embed", {}),
        "embed_vector": ("label_emb.0", {}),
        "first": ("input_blocks.0.0", {}),
        "norm": ("out.0", {}),
        "last": ("out.2", {}),
    },
    "diffusers": {
        "embed_time.mlp": ("time_embedding", {"0": "linear_1", "2": "linear_2"}),
        "embed_vector": ("add_embedding", {"0": "linear_1", "2": "linear_2"}),
        "first": ("conv_in", {}),
        "norm": ("conv_norm_out", {}),
        "last": ("conv_out", {}),
    },
}
TABLES = {"compvis": "label_emb", "diffusers": "class_embedding"}
"""What the vector's embedding is called where it is a table."""


def unet_names(names: Iterable[str], sizes: Mapping[str, Any], layout: str) -> dict[str, str]:
    """Their names by ours.

    Args:
        names: those of our U-Net's tensors.
        sizes: `widths`, `depths`, `blocks`, `mid_depth` and `vector_embedding` of its spec.
        layout: "compvis", without the leading `model.diffusion_model.`, or "diffusers".
    """
    table = {"embed_vector": (TABLES[layout], {})} if sizes.get("vector_embedding") == "table" else {}
    prefixes: Prefixes = dict(ENDS[layout]) | table | (_compvis(sizes) if layout == "compvis" else _diffusers(sizes))
    return rename_all(names, prefixes)


def _compvis(sizes: Mapping[str, Any]) -> Prefixes:
    depths, blocks = list(sizes["depths"]), sizes["blocks"]
    found: Prefixes = {}

    def stage(ours: str, theirs: str, depth: int) -> None:
        found[f"{ours}.residual"] = (f"{theirs}.0", RESIDUAL["compvis"])
        if depth:
            found[f"{ours}.transformer"] = (f"{theirs}.1", TRANSFORMER)

    number = 1
    for level, depth in enumerate(depths):
        for block in range(blocks):
            stage(f"down.{level}.stages.{block}", f"input_blocks.{number}", depth)
            number += 1
        if level < len(depths) - 1:
            found[f"down.{level}.resample"] = (f"input_blocks.{number}.0.op", {})
            number += 1
    middle = _middle_depth(sizes)
    stage("middle.0", "middle_block", 0)
    if middle:
        found["middle.0.transformer"] = ("middle_block.1", TRANSFORMER)
    found["middle.1.residual"] = (f"middle_block.{2 if middle else 1}", RESIDUAL["compvis"])
    number = 0
    for place, depth in enumerate(reversed(depths)):
        for block in range(blocks + 1):
            stage(f"up.{place}.stages.{block}", f"output_blocks.{number}", depth)
            number += 1
        if place < len(depths) - 1:
            found[f"up.{place}.resample"] = (f"output_blocks.{number - 1}.{2 if depth else 1}", {})
    return found


def _diffusers(sizes: Mapping[str, Any]) -> Prefixes:
    depths, blocks = list(sizes["depths"]), sizes["blocks"]
    residual = RESIDUAL["diffusers"]
    found: Prefixes = {f"middle.{i}.residual": (f"mid_block.resnets.{i}", residual) for i in (0, 1)}
    found["middle.0.transformer"] = ("mid_block.attentions.0", TRANSFORMER)
    for ours, theirs, count in (("down", "down_blocks", blocks), ("up", "up_blocks", blocks + 1)):
        for level in range(len(depths)):
            for block in range(count):
                found[f"{ours}.{level}.stages.{block}.residual"] = (f"{theirs}.{level}.resnets.{block}", residual)
                found[f"{ours}.{level}.stages.{block}.transformer"] = (f"{theirs}.{level}.attentions.{block}", TRANSFORMER)
        kind = "downsamplers.0.conv" if ours == "down" else "upsamplers.0"
        found |= {f"{ours}.{level}.resample": (f"{theirs}.{level}.{kind}", {}) for level in range(len(depths))}
    return found


def _middle_depth(sizes: Mapping[str, Any]) -> int:
    given = sizes.get("mid_depth")
    return next((depth for depth in reversed(sizes["depths"]) if depth), 0) if given is None else given
