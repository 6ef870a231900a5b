"""What a drawing begins with under its noise: a picture, the sketch that words make, or a picture whose hole is closed."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image
from torch import Tensor

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


def sketched(pictures: Sequence[Request], model: LatentDiffusion, size: tuple[int, int]) -> Tensor:
    """Sketches (B, C, h, w) of what the words of pictures say, in this height and width of the latent."""
    part = sketching(model)
    sketch = None if part is None else part([readings_of(picture, model) for picture in pictures], size).spatial
    assert sketch is not None, "settle() has seen to that"
    return sketch.to(model.device)


def sketching(model: LatentDiffusion) -> TextConditioner | None:
    """The part that makes a sketch of what words say; None where a model has none."""
    parts = (part for part in model.conditioner.parts if isinstance(part, TextConditioner) and part.sketcher is not None)
    return next(parts, None)


def _remembered(request: Request, model: LatentDiffusion, size: tuple[int, int]) -> Image.Image | None:
    """The sketch of a masked picture in this width and height, decoded; None where what is around counts for nothing."""
    part = sketching(model)
    if part is None or not part.heeds(row := readings_of(request, model)):
        return None
    width, height = (side // model.codec.factor for side in size)
    sketch = part([row], (height, width)).spatial
    assert sketch is not None, "it has a sketcher"
    return to_images(model.codec.decode(sketch.to(model.device)))[0]
