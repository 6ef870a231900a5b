"""Colours of classes: fixed, apart in every eye, natural where the name is; paintings in them are read again."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageFilter

from undiffuse.conditioners.palette import NATURAL, colours, hexadecimal, paint, read_painting
from undiffuse.core.errors import DataError, SpecError
from undiffuse.data.annotations import UNSAID

PLAIN = tuple(f"class {index}" for index in range(32))
SCENE = ("sky", "grass", "water", "dragon")
WITHOUT_GREEN = np.array([[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]])
WITHOUT_RED = np.array([[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]])


def apart(values: np.ndarray) -> float:
    """The least distance between two of these colours (N, 3)."""
    distances = np.linalg.norm(values[:, None] - values, axis=2)
    np.fill_diagonal(distances, np.inf)
    return float(distances.min())


def scene() -> Image.Image:
    """Sky above, water and grass below, a dragon in the middle: class indices."""
    indices = np.zeros((48, 64), dtype=np.uint8)
    indices[24:, :30] = 2
    indices[24:, 30:] = 1
    indices[15:30, 20:40] = 3
    return Image.fromarray(indices)


@pytest.mark.parametrize("classes", [PLAIN, tuple(NATURAL), SCENE, (*NATURAL, *PLAIN[:20])], ids=len)
def test_colours_stay_apart_for_those_who_see_fewer_of_them_too(classes: tuple[str, ...]) -> None:
    found = np.array(colours(classes), dtype=float)

    assert found.shape == (len(classes), 3)
    for view in (np.eye(3), WITHOUT_GREEN, WITHOUT_RED):
        assert apart(found @ view.T) > 18
    assert np.linalg.norm(found, axis=1).min() > 20  # of black


def test_a_hundred_classes_have_a_hundred_colours() -> None:
    assert len(set(colours(tuple(str(index) for index in range(100))))) == 100


def test_names_out_of_nature_have_natural_colours() -> None:
    assert colours(tuple(NATURAL)) == tuple(NATURAL.values())
    assert colours(("Trees", "sky-other", "wall_brick")) == (NATURAL["tree"], NATURAL["sky"], NATURAL["wall"])


def test_the_second_of_a_name_has_another_colour() -> None:
    first, second, third = colours(("dark sky", "sky", "seaside"))

    assert first == NATURAL["sky"] != second
    assert third not in (first, second, NATURAL["sea"])


def test_colours_are_the_same_everywhere() -> None:
    assert [hexadecimal(colour) for colour in colours(PLAIN)[:10]] == [
        "#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7", "#ffffcc", "#0000ff", "#660066",
    ]  # fmt: skip


def test_a_painting_is_read_as_it_was_painted() -> None:
    painting = paint(scene(), SCENE)

    assert (painting.mode, painting.size) == ("RGB", (64, 48))
    assert painting.getpixel((0, 0)) == NATURAL["sky"]
    assert read_painting(painting, SCENE).tobytes() == scene().tobytes()


def test_colours_that_are_nearly_right_are_taken() -> None:
    painting = np.asarray(paint(scene(), SCENE)).astype(int)
    shaken = painting + np.random.default_rng(0).integers(-12, 13, painting.shape)

    read = read_painting(Image.fromarray(shaken.clip(0, 255).astype(np.uint8)), SCENE)
    assert read.tobytes() == scene().tobytes()


def test_black_says_nothing_and_is_black_again() -> None:
    painting = paint(scene(), SCENE)
    painting.paste((0, 0, 0), (0, 0, 10, 10))

    read = read_painting(painting, SCENE)
    assert np.asarray(read)[:10, :10].tolist() == [[UNSAID] * 10] * 10
    assert paint(read, SCENE).tobytes() == painting.tobytes()


def test_the_soft_edge_of_a_brush_is_no_mistake() -> None:
    soft = paint(scene(), SCENE).resize((256, 192), Image.Resampling.NEAREST).filter(ImageFilter.BoxBlur(0.7))

    read = np.asarray(read_painting(soft, SCENE))
    assert (read != np.asarray(scene()).repeat(4, 0).repeat(4, 1)).mean() < 0.05


def test_a_colour_of_no_class_is_refused_with_the_nearest() -> None:
    painting = paint(scene(), SCENE)
    painting.paste((255, 0, 255), (0, 0, 6, 6))

    with pytest.raises(DataError, match=r"the colour #ff00ff in the painting is no class's, the nearest is #.*undiffuse paint"):
        read_painting(painting, SCENE)


def test_a_photograph_is_no_painting() -> None:
    photo = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)

    with pytest.raises(DataError, match="is no class's"):
        read_painting(Image.fromarray(photo), SCENE)


def test_more_classes_than_colours_are_refused() -> None:
    with pytest.raises(SpecError, match=r"no colour is left for class '.*'; a map of class indices is needed"):
        colours(tuple(str(index) for index in range(260)))
