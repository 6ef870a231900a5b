from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from undiffuse.core.errors import DataError
from undiffuse.data import decoding
from undiffuse.data.decoding import decode


def encoded(picture: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "YCbCr"])
def test_opaque_modes_become_rgb(mode: str) -> None:
    kind = "JPEG" if mode in ("CMYK", "YCbCr") else "PNG"
    decoded = decode(encoded(Image.new("RGB", (20, 24), "white").convert(mode), kind), "a")
    assert (decoded.image.mode, decoded.image.size) == ("RGB", (20, 24))
    assert np.asarray(decoded.image).min() > 250


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_modes_become_rgba(mode: str) -> None:
    image = decode(encoded(Image.new(mode, (20, 20))), "a").image
    assert image.mode == "RGBA" and image.getpixel((0, 0)) == (0, 0, 0, 0)


def test_a_transparent_palette_entry_becomes_alpha() -> None:
    palette = Image.new("P", (20, 20), 3)
    palette.putpalette(range(12))
    image = decode(encoded(palette, transparency=3), "a").image
    assert image.mode == "RGBA" and image.getchannel("A").getextrema() == (0, 0)


def test_sixteen_bits_are_scaled_to_eight() -> None:
    levels = np.full((20, 20), 0x8080, dtype=np.uint16)
    decoded = decode(encoded(Image.fromarray(levels)), "a")
    assert decoded.image.getpixel((0, 0)) == (128, 128, 128)
    assert decoded.remarks == ("16-bit samples are scaled to 8 bits",)


def test_exif_rotation_is_applied() -> None:
    picture = Image.new("RGB", (40, 20), "red")
    exif = Image.Exif()
    exif[0x0112] = 6
    decoded = decode(encoded(picture, "JPEG", exif=exif), "a")
    assert decoded.image.size == (20, 40)
    assert decoded.remarks == ("rotated as its EXIF entry says",)


def test_the_first_frame_of_an_animation_is_used() -> None:
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue")]
    decoded = decode(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]), "a")
    assert decoded.image.getpixel((5, 5))[:3] == (255, 0, 0)
    assert decoded.remarks == ("the first of 2 frames is used",)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"hello, I am text", "not a picture"),
        (encoded(Image.new("RGB", (64, 64)), "JPEG")[:300], "damaged|not a picture"),
        (encoded(Image.effect_noise((64, 64), 90))[:-900], "damaged"),
        (encoded(Image.new("RGB", (64, 15))), "64 x 15 pixels"),
        (encoded(Image.new("F", (32, 32)), "TIFF"), "floating-point"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(data: bytes, reason: str) -> None:
    with pytest.raises(DataError, match=rf"^cat\.png .*({reason})"):
        decode(data, "cat.png")


def test_huge_pictures_are_refused_before_they_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(Image.new("1", (12000, 12000)))
    with pytest.raises(DataError, match=r"unreasonably large|12000 x 12000"):
        decode(data, "bomb.png")
    monkeypatch.setattr(decoding, "MOST_PIXELS", 300)
    with pytest.raises(DataError, match="20 x 20 pixels"):
        decode(encoded(Image.new("1", (20, 20))), "bomb.png")
