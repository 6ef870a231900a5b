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

LATENT, INPAINTING = 4, 9
STRANGE_INPUTS = {
    5: "a depth model",
    7: "an x4 upscaler",
    8: "an InstructPix2Pix model",
}
PREDICTIONS = {"epsilon": "eps", "eps": "eps", "v": "v", "v_prediction": "v"}


@dataclass(frozen=True)
class Found:
    """A whole checkpoint: its family, whether its U-Net fills masks, and whether it holds averaged weights beside the others.

    `prediction` is None where the file alone does not tell: SD 2.x files for eps and for v look alike.
    """

    family: str
    inpainting: bool
    ema: bool
    prediction: str | None

    @property
    def words(self) -> str:
        """For people."""
        names = {"sd1": "Stable Diffusion 1.x", "sd2": "Stable Diffusion 2.x", "sdxl-base": "Stable Diffusion XL base"}
        name = names.get(self.family, "Stable Diffusion XL refiner")
        fills = "inpainting, " if self.inpainting else ""
        return f"{name}, {fills}predicts {self.prediction or 'eps or v, the file does not tell'}"


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
    if channels not in (LATENT, INPAINTING):
        given = STRANGE_INPUTS.get(channels, f"a U-Net with {channels} channels coming in")
        raise UnknownFormat(explain(f"this is {given}", "4 channels, or 9 of inpainting models, are read"))
    told = PREDICTIONS.get((metadata or {}).get("modelspec.predict_key", ""))
    prediction = told or (None if CONTEXTS[reads] == "sd2" else "eps")
    return Found(CONTEXTS[reads], channels == INPAINTING, any(name.startswith(EMA) for name in shapes), prediction)


def other_kind(shapes: Shapes) -> str:
    """What a file without a U-Net holds, in words."""
    kinds = {
        "a LoRA": ("lora_unet_", "lora_te", "lora_A.weight", "lora_B.weight", "lora_down.weight", "hada_w1_a", "lokr_w1"),
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
