"""Names of the autoencoder's tensors: ours, those of the original code (CompVis) and those of diffusers.

The original numbers the decoder's levels from the highest resolution; diffusers and we number them in the order
in which they work.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from undiffuse.checkpoints.keys.modules import rename_all

OUTSIDE = {
    "to_moments": ("quant_conv", {}),
    "from_latent": ("post_quant_conv", {}),
    "quantizer": ("quantize.embedding", {"codes": "weight"}),
}
ENDS = {
    "compvis": {"first": "conv_in", "norm": "norm_out", "last": "conv_out"},
    "diffusers": {"first": "conv_in", "norm": "conv_norm_out", "last": "conv_out"},
}
RESIDUAL = {"compvis": {"skip": "nin_shortcut"}, "diffusers": {"skip": "conv_shortcut"}}
ATTENTION = {
    "compvis": {"query": "q", "key": "k", "value": "v", "out": "proj_out"},
    "diffusers": {"norm": "group_norm", "query": "to_q", "key": "to_k", "value": "to_v", "out": "to_out.0"},
}


def autoencoder_names(names: Iterable[str], sizes: Mapping[str, Any], layout: str) -> dict[str, str]:
    """Their names by ours, of an autoencoder without shortcut.

    Args:
        names: those of our autoencoder's tensors.
        sizes: `widths`, `blocks`, `decoder_blocks`, `attention_levels` and `mid_attention` of its spec.
        layout: "compvis", without the leading `first_stage_model.`, or "diffusers".
    """
    levels, blocks = len(sizes["widths"]), sizes["blocks"]
    prefixes: dict[str, tuple[str, Mapping[str, str]]] = dict(OUTSIDE)
    for half, count in (("encoder", blocks), ("decoder", sizes.get("decoder_blocks") or blocks + 1)):
        prefixes |= {f"{half}.{ours}": (f"{half}.{theirs}", {}) for ours, theirs in ENDS[layout].items()}
        for place in range(levels):
            level = place if half == "encoder" else levels - 1 - place  # 0 is the highest resolution
            steps = ["block", *(["attention"] if level in sizes["attention_levels"] else [])] * count
            resampled = level < levels - 1 if half == "encoder" else level > 0
            found = _level(half, place, level, [*steps, "resample"] if resampled else steps, layout)
            prefixes |= {f"{half}.levels.{place}.{i}": step for i, step in enumerate(found)}
        middle = ["block", "attention", "block"] if sizes["mid_attention"] else ["block", "block"]
        prefixes |= {f"{half}.middle.{i}": step for i, step in enumerate(_middle(half, middle, layout))}
    return rename_all(names, prefixes)


def _level(half: str, place: int, level: int, steps: Sequence[str], layout: str) -> list[tuple[str, Mapping[str, str]]]:
    """Where the steps of one of our levels lie."""
    down = half == "encoder"
    if layout == "compvis":
        outer = f"{half}.{'down' if down else 'up'}.{level}"
        names = {"block": "block", "attention": "attn", "resample": "downsample" if down else "upsample"}
    else:
        outer = f"{half}.{'down' if down else 'up'}_blocks.{place}"
        names = {"block": "resnets", "attention": "attentions", "resample": "downsamplers" if down else "upsamplers"}
    inside = {"block": RESIDUAL[layout], "attention": ATTENTION[layout], "resample": {}}
    counted: dict[str, int] = {}
    found = []
    for step in steps:
        number = counted.get(step, 0)
        counted[step] = number + 1
        plain = step == "resample" and layout == "compvis"
        found.append((f"{outer}.{names[step]}" if plain else f"{outer}.{names[step]}.{number}", inside[step]))
    return found


def _middle(half: str, steps: Sequence[str], layout: str) -> list[tuple[str, Mapping[str, str]]]:
    if layout == "compvis":
        first = {"block": f"{half}.mid.block_", "attention": f"{half}.mid.attn_"}
        start = 1
    else:
        first = {"block": f"{half}.mid_block.resnets.", "attention": f"{half}.mid_block.attentions."}
        start = 0
    inside = {"block": RESIDUAL[layout], "attention": ATTENTION[layout]}
    return [(f"{first[step]}{steps[:i].count(step) + start}", inside[step]) for i, step in enumerate(steps)]
