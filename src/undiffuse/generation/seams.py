"""Holes that meet what is around them: what was drawn there is shifted, and a drawing may begin with them closed."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from undiffuse.core.membrane import continued
from undiffuse.core.pictures import to_images, to_pixels


def without_seam(drawn: Image.Image, original: Image.Image, mask: Image.Image) -> Image.Image:
    """The drawn RGB picture, shifted in colour where the mask (mode L) is not 0, so that it meets the original beside it.

    The shift is the difference of both where the mask is 0, continued smoothly over the hole: the membrane of Pérez, Gangnet
    and Blake 2003, "Poisson image editing", section 2. An autoencoder gives no colour back exactly, and an eye sees the edge
    of a patch that is hardly off. Where the mask is 0 the result is the original; if it is 0 nowhere, what was drawn.
    """
    theirs, ours = to_pixels(original), to_pixels(drawn)
    return to_images((ours + continued(theirs - ours, _known(mask)))[None])[0]


def closed(picture: Image.Image, mask: Image.Image) -> Image.Image:
    """The RGB picture with what is around the hole continued over it, smoothly; grey if the mask (mode L) is 0 nowhere."""
    return to_images(continued(to_pixels(picture), _known(mask))[None])[0]


def _known(mask: Image.Image) -> Tensor:
    """Where (H, W) nothing is hidden."""
    return torch.from_numpy(np.array(mask) == 0)
