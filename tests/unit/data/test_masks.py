"""Masks drawn by chance: of the shape that was asked for, in the size of the picture, the same from the same stream."""

from __future__ import annotations

import pytest
import torch

from undiffuse.core.random import numpy_stream
from undiffuse.data.masks import SHAPES, MaskShape, draw_mask


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_hides_something_in_the_right_size(shape: MaskShape) -> None:
    masks = [draw_mask((24, 32), {shape: 1.0}, numpy_stream("test", shape, n)) for n in range(20)]

    assert all(mask.shape == (1, 24, 32) and set(mask.unique().tolist()) <= {0.0, 1.0} for mask in masks)
    shares = torch.stack(masks).mean((1, 2, 3))
    assert shares.min() > 0
    assert (shares == 1).all() if shape == "full" else shares.max() < 1


@pytest.mark.parametrize(("shape", "low", "high"), [("box", 0.03, 0.5), ("half", 0.4, 0.6), ("outside", 0.35, 0.85)])
def test_shapes_hide_about_what_their_names_say(shape: MaskShape, low: float, high: float) -> None:
    masks = [draw_mask((32, 32), {shape: 1.0}, numpy_stream("test", shape, n)) for n in range(30)]
    assert all(low <= mask.mean() <= high for mask in masks)


def test_the_same_stream_draws_the_same_mask() -> None:
    one, again, other = (draw_mask((32, 32), dict.fromkeys(SHAPES, 1.0), numpy_stream("test", n)) for n in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
