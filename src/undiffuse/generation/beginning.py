"""What a drawing begins with under its noise: a picture, the sketch that words make, or a picture whose hole is closed."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image
from torch import Tensor

from undiffuse.conditioners.base import Fields
from undiffuse.conditioners.text import TextConditioner
from undiffuse.core.pictures import to_images
from undiffuse.generation.given import fit, readings_of, window_of
from undiffuse.generation.request import Request
from undiffuse.generation.seams import closed, without_seam
from undiffuse.model.latent_diffusion import LatentDiffusion


def begun_with(request: Request, model: LatentDiffusion, size: tuple[int, int]) -> Image.Image:
    """The picture to start from in this width and height: of a masked one the window that is drawn.

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
    hole, remembered = window.cut_mask(request.mask), _remembered(request, model, size)
    return closed(cut, hole) if remembered is None else without_seam(remembered, cut, hole)


def sketched(pictures: Sequence[Request], model: LatentDiffusion, latent: tuple[int, int]) -> Tensor:
    """Sketches (B, C, h, w) of what pictures say, in this height and width of the latent."""
    return _sketches(sketching(model), [readings_of(picture, model) for picture in pictures], model, latent)


def sketching(model: LatentDiffusion) -> TextConditioner | None:
    """The part that makes a sketch of what words say; None where a model has none."""
    parts = (part for part in model.conditioner.parts if isinstance(part, TextConditioner) and part.sketcher is not None)
    return next(parts, None)


def _remembered(request: Request, model: LatentDiffusion, size: tuple[int, int]) -> Image.Image | None:
    """The sketch of a masked picture in this width and height, decoded; None where it does not tell what is in the hole."""
    part = sketching(model)
    if part is None or not part.closes(row := readings_of(request, model)):
        return None
    width, height = (side // model.codec.factor for side in size)
    return to_images(model.codec.decode(_sketches(part, [row], model, (height, width))))[0]


def _sketches(part: TextConditioner | None, rows: Sequence[Fields], model: LatentDiffusion, latent: tuple[int, int]) -> Tensor:
    """Sketches (B, C, h, w) of readings, by the part of a model that makes them."""
    sketch = None if part is None else part(rows, latent).spatial
    assert sketch is not None, "settle() has seen to that"
    return sketch.to(model.device)
