"""What other programs call the layers of a net: in diffusers, in the CompVis code, and in LoRA files, which run words together.

A LoRA file names a layer `lora_unet_down_blocks_0_attentions_0_proj_in`, `unet.down_blocks.0.attentions.0.proj_in`
or `lora_unet_input_blocks_1_1_proj_in`. With dots read as `_` these are few names a layer, so all that a net's layers can
have are listed, and a file's are looked up: no name is ever taken apart by guessing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import nn

from undiffuse.checkpoints.keys.clip import huggingface_names
from undiffuse.checkpoints.keys.unet import unet_names
from undiffuse.core.errors import UsageError, explain
from undiffuse.model.adapters import TEXT, TEXT_2, UNET
from undiffuse.networks.lora import Layer
from undiffuse.networks.text.clip import CLIPTextEncoder
from undiffuse.networks.unet import UNet

KOHYA = {UNET: ("lora_unet",), TEXT: ("lora_te", "lora_te1"), TEXT_2: ("lora_te2",)}
"""How names of a net's layers begin in kohya's files; the first text encoder has two spellings."""

TEXT_PREFIX, WEIGHT = "text_model.", ".weight"
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
    """The names of all linear layers and convolutions of these nets, by the name of the net.

    Raises:
        UsageError: when one is no net of ours that other programs have too.
    """
    diffusers: dict[Place, str] = {}
    compvis: dict[Place, str] = {}
    for net, module in nets.items():
        paths = [path for path, layer in module.named_modules() if isinstance(layer, Layer)]
        if isinstance(module, UNet):
            sizes, weights = _sizes(module), [f"{path}{WEIGHT}" for path in paths]
            for layout, found in (("diffusers", diffusers), ("compvis", compvis)):
                found |= {Place(net, ours): theirs for ours, theirs in _paths(unet_names(weights, sizes, layout))}
        elif isinstance(module, CLIPTextEncoder):
            for ours, theirs in _paths(huggingface_names(len(module.layers), module.projection is not None)):
                if ours in paths:
                    diffusers[Place(net, ours)] = f"{TEXT_PREFIX if theirs.startswith('encoder.') else ''}{theirs}"
        else:
            given = f"{net!r} is a {type(module).__name__}"
            raise UsageError(explain(given, "LoRA files name layers of U-Nets and of CLIP text encoders"))
    xl = TEXT_2 in nets or any(isinstance(net, UNet) and net.embed_vector is not None for net in nets.values())
    return LayerNames(diffusers, compvis, xl)


def _paths(names: Mapping[str, str]) -> list[tuple[str, str]]:
    """Layers by the names of their weights; ours and theirs."""
    pairs = names.items()
    return [(ours.removesuffix(WEIGHT), theirs.removesuffix(WEIGHT)) for ours, theirs in pairs if ours.endswith(WEIGHT)]


def _sizes(net: UNet) -> dict[str, Any]:
    """The sizes that names depend on, as they are in the net's spec."""
    depths = [_depth(level.stages[0]) for level in net.down]  # type: ignore[index, union-attr]
    return {"depths": depths, "blocks": len(net.down[0].stages), "mid_depth": _depth(net.middle[0])}  # type: ignore


def _depth(stage: Any) -> int:
    return 0 if stage.transformer is None else len(stage.transformer.blocks)


def flat(name: str) -> str:
    """A name with its words run together, as in kohya's files."""
    return name.replace(".", "_")


def _spellings(name: str) -> list[str]:
    """All ways to write the name of a layer within its net."""
    name = flat(name)
    names = [name, *([name.removeprefix(flat(TEXT_PREFIX))] if name.startswith(flat(TEXT_PREFIX)) else [])]
    old = [f"{base.removesuffix(new)}{was}" for base in names for new, was in OLD_ATTENTION.items() if base.endswith(new)]
    return [*names, *old]
