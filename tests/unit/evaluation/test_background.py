"""Flat colours have known names; what stands in the middle has no say."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from undiffuse.core.pictures import to_pixels
from undiffuse.data.backgrounds import COLOURS, SHADE
from undiffuse.evaluation.background import background_names, border_colour, to_lab


def flat(colour: tuple[int, int, int], size: int = 32) -> torch.Tensor:
    return to_pixels(Image.new("RGB", (size, size), colour))


@pytest.mark.parametrize("shade", [-SHADE, 0, SHADE])
def test_every_named_colour_and_its_shades_have_their_name(shade: int) -> None:
    shaded = [tuple(min(max(level + shade, 0), 255) for level in colour) for colour in COLOURS.values()]

    assert background_names(torch.stack([flat(colour) for colour in shaded]), COLOURS) == list(COLOURS)


def test_the_middle_does_not_count() -> None:
    pixels = flat(COLOURS["blue"]).clone()
    pixels[:, 2:-2, 2:-2] = flat(COLOURS["orange"], 28)

    assert background_names(pixels[None], COLOURS) == ["blue"]


def test_a_thing_that_touches_the_frame_does_not_count() -> None:
    pixels = flat(COLOURS["pink"]).clone()
    pixels[:, 10:20, :] = -1

    assert background_names(pixels[None], COLOURS) == ["pink"]


def test_the_border_of_a_large_picture_is_a_sixteenth_wide() -> None:
    pixels = torch.ones(1, 3, 64, 64)
    pixels[..., 4:-4, 4:-4] = -1
    assert border_colour(pixels).tolist() == [[1, 1, 1]]

    pixels[..., 1:-1, 1:-1] = -1
    assert border_colour(pixels).tolist() == [[-1, -1, -1]]


# White and black by definition; the primaries as any sRGB-to-Lab table under D65 has them.
@pytest.mark.parametrize(
    ("rgb", "lab"),
    [
        ((1, 1, 1), (100, 0, 0)),
        ((0, 0, 0), (0, 0, 0)),
        ((1, 0, 0), (53.24, 80.09, 67.20)),
        ((0, 1, 0), (87.73, -86.18, 83.18)),
        ((0, 0, 1), (32.30, 79.19, -107.86)),
    ],
)
def test_lab_of_known_colours(rgb: tuple[float, ...], lab: tuple[float, ...]) -> None:
    assert to_lab(torch.tensor(rgb, dtype=torch.float64)).tolist() == pytest.approx(lab, abs=0.02)
