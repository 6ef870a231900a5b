"""From what was painted on a canvas to the mask and the map of a request."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from undiffuse.conditioners.palette import BLACK
from undiffuse.core.errors import UsageError, explain
from undiffuse.core.pictures import to_rgb

Canvas = dict[str, Any]
"""What a canvas gives: the picture below (`background`), the `layers` painted over it, and all of it (`composite`)."""
PAINTED = 10  # opacity of 255 from which on a point counts as painted


def mask_of(canvas: Canvas | None) -> tuple[Image.Image, Image.Image]:
    """The picture of a canvas, what is transparent laid on white, and the mask (mode L) that is white where it is painted over.

    Raises:
        UsageError: when there is no picture, or nothing was painted.
    """
    background = None if canvas is None else canvas.get("background")
    if canvas is None or background is None:
        raise UsageError(explain("no picture", "one is needed to change a part of it", "drop one onto the canvas"))
    hidden = np.zeros((background.height, background.width), dtype=bool)
    for layer in canvas["layers"]:
        alpha = layer.convert("RGBA").resize(background.size, Image.Resampling.NEAREST).getchannel("A")
        hidden |= np.asarray(alpha) > PAINTED
    if not hidden.any():
        raise UsageError(explain("nothing is painted over", "what is painted over is drawn anew", "use the brush"))
    return to_rgb(background), Image.fromarray(hidden.astype(np.uint8) * 255)


def edged(mask: Image.Image, grow: int, blur: float) -> Image.Image:
    """A mask (mode L) that reaches `grow` pixels further to every side, its edge soft by a Gaussian of `blur` pixels.

    Where the edge fades the old picture and the new one are blended by it; beyond it the mask stays 0.
    """
    grown = mask.filter(ImageFilter.MaxFilter(2 * int(grow) + 1)) if grow else mask
    return grown.filter(ImageFilter.GaussianBlur(blur)) if blur else grown


def painting_of(canvas: Canvas | None) -> Image.Image:
    """What was painted, on black, where nothing is said.

    Raises:
        UsageError: when nothing was painted.
    """
    layers = [layer.convert("RGBA") for layer in (canvas or {}).get("layers", [])]
    if not any(np.asarray(layer.getchannel("A")).max() > PAINTED for layer in layers):
        raise UsageError(explain("nothing is painted", "colours say what stands where", "pick one and use the brush"))
    whole = Image.new("RGBA", layers[0].size, (*BLACK, 255))
    for layer in layers:
        whole.alpha_composite(layer)
    return whole.convert("RGB")
