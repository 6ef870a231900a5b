"""`Hires`: a second pass at a larger size, as AUTOMATIC1111's "Hires. fix" draws it.

A model draws best at the size that it was trained on. So a picture is drawn at that size, enlarged, noised up a part of the
way and drawn on: what it shows is settled by then, and the second pass adds what there is room for now.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
from PIL import Image
from pydantic import Field, ValidationError
from torch import Tensor
from torch.nn.functional import interpolate

from undiffuse.core.errors import SpecError
from undiffuse.core.pictures import to_images, to_pixels
from undiffuse.core.spec import Spec, describe_errors
from undiffuse.model.codec import Codec

LARGEST = 8192  # pixels on a side


class Hires(Spec):
    """How a picture is drawn on at a larger size.

    | field      | meaning                                                                                            |
    |------------|----------------------------------------------------------------------------------------------------|
    | `scale`    | how many times larger, 1 to 4; sides are rounded to what the model can draw                          |
    | `strength` | how far the second pass leaves the enlarged picture, 0 to 1                                          |
    | `steps`    | how many steps the second pass takes, whatever its strength; None is as many as the request asks for |
    | `upscaler` | "latent" interpolates the latent, "lanczos" the picture, which is decoded and encoded for that       |

    Raises:
        SpecError: naming every wrong field, what was given and what is allowed.
    """

    scale: Annotated[float, Field(ge=1, le=4)] = 2.0
    strength: Annotated[float, Field(gt=0, le=1)] = 0.7
    steps: Annotated[int, Field(ge=1, le=1000)] | None = None
    upscaler: Literal["latent", "lanczos"] = "latent"

    def __init__(self, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise SpecError(describe_errors(error, "hires")) from None

    def size(self, size: tuple[int, int], unit: int) -> tuple[int, int]:
        """Width and height of the second pass from those of the first, both multiples of `unit`."""
        width, height = (max(1, int(side * self.scale / unit + 0.5)) * unit for side in size)
        return width, height

    def whole(self, steps: int) -> int:
        """Steps of the grid of which this many are the last `strength` of the way."""
        return int(steps / self.strength)


def enlarge(z: Tensor, size: tuple[int, int], upscaler: str, codec: Codec) -> Tensor:
    """Latents (B, C, h, w) as those of the same pictures in this width and height.

    "latent" is A1111's upscaler of that name, which is quick and blurs what the second pass then makes anew: it needs a
    strength of 0.5 or more. "lanczos" goes by way of 8-bit pictures, as there, and keeps edges.
    """
    width, height = size
    if upscaler == "latent":
        return interpolate(z, (height // codec.factor, width // codec.factor), mode="bilinear")
    larger = [image.resize(size, Image.Resampling.LANCZOS) for image in to_images(codec.decode(z))]
    return codec.encode(torch.stack([to_pixels(image) for image in larger]).to(z.device)).to(z)
