"""What other programs call the layers of a net: in diffusers, in the CompVis code, and in LoRA files, which run words together.

A LoRA file names a layer `lora_unet_down_blocks_0_attentions_0_proj_in`, `unet.down_blocks.0.attentions.0.proj_in`
or `lora_unet_input_blocks_1_1_proj_in`. With dots read as `_` these are few names a layer, so all that a net's layers can
have are listed, and a file's are looked up: no name is ever taken apart by guessing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from torch import nn

from undiffuse.model.adapters import TEXT, TEXT_2, UNET
from undiffuse.networks.lora import Layer
from undiffuse.networks.unet import UNet

KOHYA = {UNET: ("lora_unet",), TEXT: ("lora_te", "lora_te1"), TEXT_2: ("lora_te2",)}
"""How names of a net's layers begin in kohya's files; the first text encoder has two spellings."""

Renaming = tuple[tuple[str, str], ...]

TRANSFORMER: Renaming = (
    (r"\.into$", ".proj_in"),
    (r"\.out$", ".proj_out"),
    (r"\.blocks\.", ".transformer_blocks."),
    (r"\.attend_self\.", ".attn1."),
    (r"\.attend_cross\.", ".attn2."),
    (r"\.to_query$", ".to_q"),
    (r"\.to_key$", ".to_k"),
    (r"\.to_value$", ".to_v"),
    (r"\.to_out$", ".to_out.0"),
    (r"\.feed\.widen$", ".ff.net.0.proj"),
    (r"\.feed\.narrow$", ".ff.net.2"),
)
DIFFUSERS: Renaming = (
    (r"^embed_time\.mlp\.0", "time_embedding.linear_1"),
    (r"^embed_time\.mlp\.2", "time_embedding.linear_2"),
    (r"^embed_vector\.0", "add_embedding.linear_1"),
    (r"^embed_vector\.2", "add_embedding.linear_2"),
    (r"^first$", "conv_in"),
    (r"^last$", "conv_out"),
    (r"^middle\.(\d+)\.residual", r"mid_block.resnets.\1"),
    (r"^middle\.0\.transformer", "mid_block.attentions.0"),
    (r"^(down|up)\.(\d+)\.stages\.(\d+)\.residual", r"\1_blocks.\2.resnets.\3"),
    (r"^(down|up)\.(\d+)\.stages\.(\d+)\.transformer", r"\1_blocks.\2.attentions.\3"),
    (r"^down\.(\d+)\.resample", r"down_blocks.\1.downsamplers.0.conv"),
    (r"^up\.(\d+)\.resample", r"up_blocks.\1.upsamplers.0"),
    (r"\.embedding$", ".time_emb_proj"),
    (r"\.skip$", ".conv_shortcut"),
    *TRANSFORMER,
)
COMPVIS: Renaming = (
    (r"^embed_time\.mlp\.", "time_embed."),
    (r"^embed_vector\.", "label_emb.0."),
    (r"^first$", "input_blocks.0.0"),
    (r"^last$", "out.2"),
    (r"^middle\.0\.residual", "middle_block.0"),
    (r"^middle\.0\.transformer", "middle_block.1"),
    (r"^middle\.1\.residual", "middle_block.2"),
    (r"\.conv1$", ".in_layers.2"),
    (r"\.embedding$", ".emb_layers.1"),
    (r"\.conv2$", ".out_layers.3"),
    (r"\.skip$", ".skip_connection"),
    *TRANSFORMER,
)
CLIP: Renaming = (
    (r"^layers\.(\d+)\.attend\.", r"text_model.encoder.layers.\1.self_attn."),
    (r"^layers\.(\d+)\.feed\.", r"text_model.encoder.layers.\1.mlp."),
    (r"\.to_query$", ".q_proj"),
    (r"\.to_key$", ".k_proj"),
    (r"\.to_value$", ".v_proj"),
    (r"\.to_out$", ".out_proj"),
    (r"\.widen$", ".fc1"),
    (r"\.narrow$", ".fc2"),
    (r"^projection$", "text_projection"),
)

# Old diffusers files call the layers of attention by what they do; ours: theirs.
OLD_ATTENTION = {"to_out_0": "to_out", "q_proj": "to_q", "k_proj": "to_k", "v_proj": "to_v", "out_proj": "to_out"}


class Place(NamedTuple):
    """A layer: which net it belongs to, and its path there."""

    net: str
    path: str


@dataclass(frozen=True)
class LayerNames:
    """What diffusers and CompVis call every layer that may be given a term; `xl` tells that kohya's files follow XL's ways."""

    diffusers: Mapping[Place, str]
    compvis: Mapping[Place, str]
    xl: bool

    def places(self) -> dict[str, Place]:
        """The layer of every name that a file may use, dots read as `_`."""
        found: dict[str, Place] = {}
        for place, name in (*self.compvis.items(), *self.diffusers.items()):
            for spelling in _spellings(name):
                bare = [] if place.net == TEXT_2 else [spelling]
                prefixes = [place.net, *KOHYA[place.net], *(("diffusion_model",) if place.net == UNET else ())]
                for full in (*bare, *(f"{prefix}_{spelling}" for prefix in prefixes)):
                    found[full] = place
        return found

    def kohya(self, place: Place) -> str:
        """The name in kohya's files, which follow diffusers, but in the U-Net of XL CompVis."""
        if place.net == UNET and self.xl:
            return f"lora_unet_{flat(self.compvis[place])}"
        return f"{KOHYA[place.net][-1 if self.xl else 0]}_{flat(self.diffusers[place])}"


def names_of(nets: Mapping[str, nn.Module]) -> LayerNames:
    """The names of all linear layers and convolutions of these nets, by the name of the net."""
    diffusers: dict[Place, str] = {}
    compvis: dict[Place, str] = {}
    for net, module in nets.items():
        for path in (path for path, layer in module.named_modules() if isinstance(layer, Layer)):
            diffusers[Place(net, path)] = _renamed(path, DIFFUSERS if isinstance(module, UNet) else CLIP)
            if isinstance(module, UNet):
                compvis[Place(net, path)] = _renamed(_numbered(path, module), COMPVIS)
    xl = TEXT_2 in nets or any(isinstance(net, UNet) and net.embed_vector is not None for net in nets.values())
    return LayerNames(diffusers, compvis, xl)


def _renamed(path: str, renaming: Renaming) -> str:
    for ours, theirs in renaming:
        path = re.sub(ours, theirs, path)
    return path


def _numbered(path: str, net: UNet) -> str:
    """The path with the stages and changes of size of a net counted through, as CompVis does."""
    found = re.match(r"(down|up)\.(\d+)\.(?:stages\.(\d+)\.(residual|transformer)|resample)", path)
    if found is None:
        return path
    way, level, stage, what = found.groups()
    here = (net.down if way == "down" else net.up)[int(level)].stages
    before = int(level) * len(net.down[0].stages) + int(level) if way == "down" else int(level) * len(here)  # type: ignore
    index = before + (1 if way == "down" else 0)
    if stage is not None:
        index, inner = index + int(stage), "0" if what == "residual" else "1"
    elif way == "down":
        index, inner = index + len(here), "0.op"  # type: ignore[arg-type]
    else:
        index, inner = index + len(here) - 1, "1" if here[0].transformer is None else "2"  # type: ignore
    return f"{'input' if way == 'down' else 'output'}_blocks.{index}.{inner}{path[found.end() :]}"


def flat(name: str) -> str:
    """A name with its words run together, as in kohya's files."""
    return name.replace(".", "_")


def _spellings(name: str) -> list[str]:
    """All ways to write the name of a layer within its net."""
    name = flat(name)
    names = [name, *([name.removeprefix("text_model_")] if name.startswith("text_model_") else [])]
    old = [f"{base.removesuffix(new)}{was}" for base in names for new, was in OLD_ATTENTION.items() if base.endswith(new)]
    return [*names, *old]
