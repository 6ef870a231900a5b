"""What a drawing begins with under its noise: a picture, the sketch that words make, or a picture whose hole is closed."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image
from torch import Tensor

from undiffuse.conditioners.base import Fields
from undiffuse.core.pictures import to_images
from undiffuse.generation.given import fit, sketching, window_of
from undiffuse.generation.request import Request
from undiffuse.generation.seams import closed, without_seam
from undiffuse.model.latent_diffusion import LatentDiffusion


def begun_with(request: Request, row: Fields, model: LatentDiffusion, size: tuple[int, int]) -> Image.Image:
    """The picture to start from in this width and height: of a masked one the window that is drawn. `row` are its readings.

    Where a sketch is asked for, the hole is closed: with what the model remembers that agrees with the words and with what
    is around it, or else with what is around it, continued smoothly.
    """
    window = window_of(request, model)
    assert request.image is not None
    if window is None or request.mask is None:
        return fit(request.image, size)
    cut = window.cut(request.image)
    if request.sketch is None:
        return cut
    hole, remembered = window.cut_mask(request.mask), _remembered(row, model, size)
    return closed(cut, hole) if remembered is None else without_seam(remembered, cut, hole)


def sketched(rows: Sequence[Fields], model: LatentDiffusion, latent: tuple[int, int]) -> Tensor:
    """Sketches (B, C, h, w) of what pictures say, by their readings, in this height and width of the latent."""
    part = sketching(model)
    sketch = None if part is None else part(rows, latent).spatial
    assert sketch is not None, "settle() has seen to that"
    return sketch.to(model.device)


def _remembered(row: Fields, model: LatentDiffusion, size: tuple[int, int]) -> Image.Image | None:
    """The sketch of a masked picture in this width and height, decoded; None where it does not tell what is in the hole."""
    part = sketching(model)
    if part is None or not part.closes(row):
        return None
    width, height = (side // model.codec.factor for side in size)
    return to_images(model.codec.decode(sketched([row], model, (height, width))))[0]
