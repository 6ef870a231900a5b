"""What is drawn anew of a picture: where the window lies, what it shows, and that nothing outside the mask changes."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from undiffuse.core.errors import DataError
from undiffuse.generation.window import Window

SIZE = (16, 16)


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def box_mask(size: tuple[int, int], box: tuple[int, int, int, int], level: int = 255) -> Image.Image:
    mask = Image.new("L", size, 0)
    mask.paste(level, box)
    return mask


@st.composite
def masked(draw: st.DrawFn) -> tuple[Image.Image, Image.Image, Window]:
    """A picture, a mask that marks something, and a window around it of any size."""
    width, height = draw(st.integers(1, 70)), draw(st.integers(1, 70))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    levels = np.zeros((height, width), dtype=np.uint8)
    for _ in range(draw(st.integers(1, 3))):
        x, y = rng.integers(0, width), rng.integers(0, height)
        levels[y : y + rng.integers(1, height + 1), x : x + rng.integers(1, width + 1)] = rng.integers(1, 256)
    if draw(st.booleans()):
        levels = levels * rng.integers(0, 2, levels.shape, dtype=np.uint8)
        levels[rng.integers(0, height), rng.integers(0, width)] = rng.integers(1, 256)  # something stays marked
    mask = Image.fromarray(levels)
    size = (draw(st.integers(1, 40)), draw(st.integers(1, 40)))
    return noise(width, height), mask, Window.around(mask, size)


@settings(deadline=None)
@given(masked())
def test_bytes_outside_the_mask_are_untouched_and_inside_it_those_drawn(case: tuple[Image.Image, Image.Image, Window]) -> None:
    picture, mask, window = case
    before = picture.tobytes()
    drawn = Image.new("RGB", window.size, (1, 2, 3))

    pasted = window.paste(picture, drawn, mask, seam=True)

    assert (pasted.mode, pasted.size) == ("RGB", picture.size)
    levels = np.asarray(mask)
    assert np.array_equal(np.asarray(pasted)[levels == 0], np.asarray(picture)[levels == 0])
    assert (np.asarray(pasted)[levels == 255] == (1, 2, 3)).all()
    assert picture.tobytes() == before


@settings(deadline=None)
@given(masked())
def test_the_window_shows_all_that_is_marked_in_the_size_that_is_drawn(case: tuple[Image.Image, Image.Image, Window]) -> None:
    picture, mask, window = case
    left, top, right, bottom = window.box
    columns, rows = np.asarray(mask).any(0).nonzero()[0], np.asarray(mask).any(1).nonzero()[0]

    assert left <= columns.min() and columns.max() < right and top <= rows.min() and rows.max() < bottom
    assert window.cut(picture).size == window.cut_mask(mask).size == window.size
    assert (window.cut(picture).mode, window.cut_mask(mask).mode) == ("RGB", "L")
    width, height = right - left, bottom - top
    scale = width / window.size[0] if window.size[0] > window.size[1] else height / window.size[1]
    assert abs(width - window.size[0] * scale) <= 0.5 + scale and abs(height - window.size[1] * scale) <= 0.5 + scale


@settings(deadline=None)
@given(masked())
def test_a_drawn_pixel_is_as_hidden_as_the_most_hidden_one_that_it_overlaps(
    case: tuple[Image.Image, Image.Image, Window],
) -> None:
    _, mask, window = case
    inside, shown = window._shown(mask.size)
    levels, found = np.asarray(mask.crop(inside)), np.asarray(window.cut_mask(mask)).copy()

    def overlap(drawn: int, count: int) -> np.ndarray:
        """Which drawn pixels touch which of the picture's (drawn, count), in fractions."""
        low, high = (np.array([Fraction(k + end, drawn) for k in range(drawn)])[:, None] for end in (0, 1))
        first, last = (np.array([Fraction(k + end, count) for k in range(count)]) for end in (0, 1))
        return (low < last) & (first < high)

    rows, columns = overlap(shown[3] - shown[1], len(levels)), overlap(shown[2] - shown[0], levels.shape[1])
    by_row = np.stack([levels[row].max(axis=0) for row in rows])
    expected = np.stack([by_row[:, column].max(axis=1) for column in columns], axis=1)
    assert np.array_equal(found[shown[1] : shown[3], shown[0] : shown[2]], expected)
    found[shown[1] : shown[3], shown[0] : shown[2]] = 255
    assert (found == 255).all()


@pytest.mark.parametrize(
    ("picture", "marked", "box"),
    [
        ((100, 80), (48, 38, 52, 42), (42, 32, 58, 48)),  # small: as much as is drawn, around it
        ((100, 80), (0, 0, 4, 4), (0, 0, 16, 16)),  # in a corner
        ((100, 80), (96, 76, 100, 80), (84, 64, 100, 80)),
        ((100, 80), (30, 20, 62, 52), (22, 12, 70, 60)),  # larger: a quarter of its sides around it
        ((100, 80), (10, 0, 80, 70), (5, 0, 85, 80)),  # as large as the picture allows
        ((100, 80), (0, 0, 100, 80), (0, -10, 100, 90)),  # all of it: beyond the picture's edges
        ((16, 16), (3, 3, 5, 5), (0, 0, 16, 16)),
        ((10, 10), (3, 3, 5, 5), (0, 0, 10, 10)),  # smaller than what is drawn: the whole picture
        ((10, 40), (3, 3, 5, 5), (0, 0, 10, 10)),
        ((10, 40), (3, 10, 5, 30), (-5, 10, 15, 30)),
    ],
)
def test_where_the_window_lies(picture: tuple[int, int], marked: tuple, box: tuple) -> None:
    assert Window.around(box_mask(picture, marked), SIZE) == Window(box, SIZE)


def test_the_window_has_the_aspect_of_what_is_drawn() -> None:
    assert Window.around(box_mask((100, 80), (40, 40, 44, 44)), (32, 16)).box == (26, 34, 58, 50)


def test_a_window_of_the_drawn_size_shows_the_picture_as_it_is() -> None:
    picture, mask = noise(50, 50), box_mask((50, 50), (20, 20, 26, 26), 128)
    window = Window.around(mask, SIZE)

    assert window.cut(picture).tobytes() == picture.crop(window.box).tobytes()
    assert window.cut_mask(mask).tobytes() == mask.crop(window.box).tobytes()
    assert window.paste(picture, window.cut(picture), mask).tobytes() == picture.tobytes()


def test_grey_blends() -> None:
    picture, mask = Image.new("RGB", (20, 20), (0, 0, 0)), box_mask((20, 20), (8, 8, 12, 12), 51)

    window, filled = Window.around(mask, SIZE), picture.copy()
    filled.paste((200, 100, 0), (8, 8, 12, 12))
    pasted = window.paste(picture, window.cut(filled), mask)
    assert pasted.getpixel((9, 9)) == (40, 20, 0)
    assert pasted.getpixel((7, 9)) == (0, 0, 0)


def test_beyond_the_edges_the_picture_goes_on_and_nothing_is_known() -> None:
    picture, mask = noise(40, 10), box_mask((40, 10), (0, 0, 40, 5))
    window = Window.around(mask, SIZE)

    assert window.box == (0, -15, 40, 25)
    shown, hidden = np.asarray(window.cut(picture)), np.asarray(window.cut_mask(mask))
    assert (shown[:6] == shown[6]).all() and (shown[10:] == shown[9]).all()
    assert (hidden[:6] == 255).all() and (hidden[10:] == 255).all()
    assert (hidden[9] == 0).all()


def test_a_long_strip_costs_no_more_than_itself() -> None:
    picture = Image.new("RGB", (60_000, 16), (9, 9, 9))
    mask = box_mask(picture.size, (0, 0, 60_000, 8))
    window = Window.around(mask, (128, 128))

    pasted = window.paste(picture, window.cut(picture), mask)
    assert window.cut_mask(mask).size == (128, 128)
    assert pasted.tobytes() == picture.tobytes()


def test_one_grey_pixel_of_a_large_picture_is_hidden_still() -> None:
    mask = box_mask((400, 400), (0, 0, 2, 400))
    mask.putpixel((399, 200), 1)
    hidden = np.asarray(Window.around(mask, SIZE).cut_mask(mask))

    assert (hidden[:, 0] > 0).all() and hidden[8, 15] == 1
    assert (hidden[:, 1:15] == 0).all()


def test_a_mask_that_marks_nothing_is_refused() -> None:
    with pytest.raises(DataError, match="black all over; white marks what is made anew"):
        Window.around(Image.new("L", (20, 20), 0), SIZE)
