"""From file bytes to an upright 8-bit RGB or RGBA picture, or to a refusal that names the file."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps, features

from undiffuse.core.errors import DataError, explain

SMALLEST_SIDE = 16
MOST_PIXELS = 89_000_000  # Pillow's own limit, held here without its warning
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", *(("AVIF",) if features.check("avif") else ()))
SUFFIXES = frozenset(".png .jpg .jpeg .webp .gif .bmp .tif .tiff .ppm .avif".split())


@dataclass(frozen=True)
class Decoded:
    """A picture in mode RGB or RGBA, and remarks on what had to be done to get it."""

    image: Image.Image
    remarks: tuple[str, ...] = ()


def decode(data: bytes, name: str, smallest: int = SMALLEST_SIDE) -> Decoded:
    """Decode a picture by its content, whatever its extension says.

    The first frame of an animation is taken, EXIF rotation is applied, 16-bit samples are scaled to 8 bits,
    transparency is kept as RGBA.

    Raises:
        DataError: empty, damaged, of an unknown format, with a side below `smallest`, or unreasonably large.
    """
    if not data:
        raise _refusal(name, "is empty (0 bytes)", "a picture file is needed")
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        _check_size(image.size, name, smallest)
        remarks = [remark for remark in (_animation(image), _depth(image)) if remark]
        image.load()
        upright = ImageOps.exif_transpose(image)
        if upright.size != image.size:
            remarks.append("rotated as its EXIF entry says")
        return Decoded(_eight_bit(upright, name), tuple(remarks))
    except DataError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _refusal(name, "is unreasonably large", f"at most {MOST_PIXELS:,} pixels are read", "shrink it") from None
    except Image.UnidentifiedImageError:
        raise _refusal(name, "is not a picture that can be read", f"read are {', '.join(FORMATS)}") from None
    except Exception as error:  # decoders raise OSError, ValueError, SyntaxError, struct.error and more on damaged files
        raise _refusal(name, f"is damaged ({error})", "the whole picture must be readable", "replace or delete it") from None


def _check_size(size: tuple[int, int], name: str, smallest: int) -> None:
    width, height = size
    if width * height > MOST_PIXELS:
        raise _refusal(name, f"is {width} x {height} pixels", f"at most {MOST_PIXELS:,} pixels are read", "shrink it")
    if min(size) < smallest:
        raise _refusal(name, f"is {width} x {height} pixels", f"the smaller side must be at least {smallest}")


def _animation(image: Image.Image) -> str:
    frames = getattr(image, "n_frames", 1)
    return f"the first of {frames} frames is used" if frames > 1 and image.format != "MPO" else ""


def _depth(image: Image.Image) -> str:
    return "16-bit samples are scaled to 8 bits" if image.mode.startswith("I") else ""


def _eight_bit(image: Image.Image, name: str) -> Image.Image:
    if image.mode == "F":
        raise _refusal(name, "holds floating-point samples", "8-bit and 16-bit samples are read", "save it as PNG")
    if image.mode.startswith("I"):
        wide = np.asarray(image).astype(np.int64)
        image = Image.fromarray(np.clip(wide // 257, 0, 255).astype(np.uint8))
    transparent = image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info
    return image.convert("RGBA" if transparent else "RGB")


def _refusal(name: str, given: str, allowed: str, remedy: str = "") -> DataError:
    return DataError(explain(f"{name} {given}", allowed, remedy))
