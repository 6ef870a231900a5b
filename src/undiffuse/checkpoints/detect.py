"""Which family a file of Stable Diffusion's is of, from the names and shapes of its tensors alone. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from undiffuse.core.errors import UnknownFormat, explain

Shapes = Mapping[str, Sequence[int]]

UNET = "model.diffusion_model."
FIRST = f"{UNET}input_blocks.0.0.weight"
EMA = "model_ema.diffusion_model"
CONTEXTS = {768: "sd1", 1024: "sd2", 2048: "sdxl-base", 1280: "sdxl-refiner"}
"""Features of a token that the U-Net reads: they tell the family."""

LATENT, DEPTH, X4, INPAINTING = 4, 5, 7, 9
FAMILIES = {("sd2", DEPTH): "sd2-depth", ("sd2", X4): "x4-upscaler"}
"""Families of their own, by what the U-Net reads and by how many channels come in."""
STRANGE_INPUTS = {
    5: "a depth model",
    7: "an x4 upscaler",
    8: "an InstructPix2Pix model",
}
PREDICTED = {"sd2": None, "x4-upscaler": "v"}
"""What families predict; None where there are files of both kinds. All others predict eps."""
ASIDE = {"depth_model": "give a depth map"}
"""Parts of files that are left aside, and what to do instead."""
NAMES = {
    "sd1": "Stable Diffusion 1.x",
    "sd2": "Stable Diffusion 2.x",
    "sd2-depth": "Stable Diffusion 2.x, draws from depth maps",
    "x4-upscaler": "Stable Diffusion x4 upscaler, enlarges small pictures",
    "sdxl-base": "Stable Diffusion XL base",
    "sdxl-refiner": "Stable Diffusion XL refiner",
}
OF_LORAS = (
    *("lora_unet_", "lora_te", "lora_A.weight", "lora_B.weight", "lora_down.weight", "lora.down.weight"),
    *("hada_w1_a", "lokr_w1"),
)
"""Beginnings and ends of names in LoRA files."""
PREDICTIONS = {"epsilon": "eps", "eps": "eps", "v": "v", "v_prediction": "v"}


@dataclass(frozen=True)
class Found:
    """A whole checkpoint: its family, whether its U-Net fills masks, and whether it holds averaged weights beside the others.

    `prediction` is None where the file alone does not tell: SD 2.x files for eps and for v look alike. `channels` come into
    the U-Net; `aside` names parts of the file that are not read.
    """

    family: str
    inpainting: bool
    ema: bool
    prediction: str | None
    channels: int = LATENT
    aside: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """For people."""
        fills = "inpainting, " if self.inpainting else ""
        predicts = f"predicts {self.prediction or 'eps or v, the file does not tell'}"
        return f"{NAMES[self.family]}, {fills}{self.channels} channels come in, {predicts}"

    @property
    def unread(self) -> list[str]:
        """For people: what of the file is left aside, and what to do instead."""
        return [f"{part}: not read, {ASIDE[part]}" for part in self.aside]


def detect(shapes: Shapes, metadata: Mapping[str, str] | None = None) -> Found:
    """The family of a whole checkpoint in the original's layout.

    Args:
        shapes: of every tensor, by name.
        metadata: of the file; `modelspec.predict_key` tells the prediction.

    Raises:
        UnknownFormat: when it is something else, or a kind that is not read; the message says what it is.
    """
    if FIRST not in shapes:
        allowed = "a whole checkpoint of Stable Diffusion 1.x, 2.x or XL is read"
        raise UnknownFormat(explain(f"this is {other_kind(shapes)}", allowed))
    reads = next(
        (shape[1] for name, shape in shapes.items() if name.startswith(UNET) and name.endswith("attn2.to_k.weight")), 0
    )
    channels = shapes[FIRST][1]
    if reads not in CONTEXTS:
        given = f"a U-Net that reads {f'tokens of {reads} features' if reads else 'no tokens'}"
        known = ", ".join(f"{width} ({name})" for width, name in CONTEXTS.items())
        raise UnknownFormat(explain(given, f"those of Stable Diffusion read {known}"))
    found = FAMILIES.get((CONTEXTS[reads], channels), CONTEXTS[reads] if channels in (LATENT, INPAINTING) else None)
    if found is None:
        given = STRANGE_INPUTS.get(channels, f"a U-Net with {channels} channels coming in")
        allowed = (
            "4 channels, 9 of inpainting models, and with tokens of 2.x 5 of depth models or 7 of the x4 upscaler are read"
        )
        raise UnknownFormat(explain(f"this is {given} that reads tokens of {reads} features", allowed))
    told = PREDICTIONS.get((metadata or {}).get("modelspec.predict_key", ""))
    aside = tuple(part for part in ASIDE if any(name.startswith(f"{part}.") for name in shapes))
    ema = any(name.startswith(EMA) for name in shapes)
    return Found(found, channels == INPAINTING, ema, told or PREDICTED.get(found, "eps"), channels, aside)


def other_kind(shapes: Shapes) -> str:
    """What a file without a U-Net holds, in words."""
    kinds = {
        "a LoRA": OF_LORAS,
        "a textual inversion": ("string_to_param", "emb_params", "clip_l", "clip_g"),
        "a ControlNet": ("control_model.", "controlnet_cond_embedding."),
        "an autoencoder alone": ("first_stage_model.", "decoder.up.", "decoder.up_blocks."),
        "a U-Net of a diffusers folder": ("down_blocks.0.",),
        "a text encoder alone": ("text_model.encoder.layers.", "transformer.resblocks."),
    }
    for kind, marks in kinds.items():
        if any(name.startswith(mark) or name.endswith(mark) for name in shapes for mark in marks):
            return kind
    return f"a file of {len(shapes)} tensors of some other model"
