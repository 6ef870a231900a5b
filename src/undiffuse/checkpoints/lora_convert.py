"""`convert_lora`: a LoRA file from one form to another, without a model: its nets' names are all that is needed."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from torch import nn

from undiffuse.checkpoints.detect import other_kind
from undiffuse.checkpoints.foreign_tensors import READ, read_tensors
from undiffuse.checkpoints.headers import PICKLES, read_header, shapes_of
from undiffuse.checkpoints.lora_alphas import WEIGHTS
from undiffuse.checkpoints.lora_detect import SD1, SD2, XL, base_of_lora
from undiffuse.checkpoints.lora_files import read_lora, save_lora
from undiffuse.checkpoints.pickled_headers import read_pickle_header
from undiffuse.core.errors import CheckpointError, explain
from undiffuse.model.adapters import TEXT, TEXT_2, UNET
from undiffuse.model.families import family
from undiffuse.networks.unet import UNet

FAMILIES = {SD1: "sd1", SD2: "sd2-base", XL: "sdxl-base"}


def convert_lora(source: str | Path, target: str | Path, form: str = "kohya", base: str | None = None) -> None:
    """Write a LoRA in another form: "kohya", "diffusers" or "peft".

    Args:
        source: a file in any form, or a folder of PEFT's.
        target: a .safetensors file, for PEFT one of the name that PEFT reads.
        form: of the target.
        base: the family that it was made for ("sd1", "sd2-base", "sdxl-base"); by default what the file tells.

    Raises:
        CheckpointError: when the file cannot be read, tells no base or does not fit it, or the form cannot hold it.
        SpecError: for an unknown form or family.
    """
    source = lora_file_of(source) or Path(source)
    if base is None:
        tensors, header = read_tensors(source)
        made_for = base_of_lora({name: tuple(tensor.shape) for name, tensor in tensors.items()}, header)
        if made_for not in FAMILIES:
            given = f"{source} was made for {made_for}" if made_for else f"{source} does not tell what it was made for"
            allowed = f"these are converted: {', '.join(FAMILIES)}"
            raise CheckpointError(explain(given, allowed, f"if it is one of them, name it: {', '.join(FAMILIES.values())}"))
        base = FAMILIES[made_for]
    nets = nets_of_family(base)
    save_lora(read_lora(source, nets), target, nets, form)


def lora_file_of(source: str | Path) -> Path | None:
    """The LoRA file that this is, or that is in this folder of PEFT's; None for something else, told by names of tensors alone.

    Raises:
        CheckpointError: when it is a model file that cannot be read.
    """
    path = Path(source)
    path = path / WEIGHTS if (path / WEIGHTS).is_file() else path
    if not path.is_file() or path.suffix.lower() not in READ:
        return None
    pickled = path.suffix.lower() in PICKLES
    shapes = shapes_of(read_pickle_header(path).tensors if pickled else read_header(path))
    return path if other_kind(shapes) == "a LoRA" else None


@cache
def nets_of_family(name: str) -> dict[str, nn.Module]:
    """The nets of a family that LoRAs know, without numbers in them.

    Raises:
        SpecError: for an unknown family.
    """
    spec = family(name)
    with torch.device("meta"):
        unet = UNet(in_channels=4, out_channels=4, **spec.denoiser.model_dump(exclude={"kind"}))
        encoders = [encoder for part in spec.conditioners for encoder in part.build(None).text_encoders()]
    return {UNET: unet, **dict(zip((TEXT, TEXT_2), encoders, strict=False))}
