from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from undiffuse.core.errors import DataError, SpecError
from undiffuse.core.random import numpy_stream
from undiffuse.data.backgrounds import COLOURS, draw_background
from undiffuse.data.captions import CaptionSpec
from undiffuse.data.dataset import open_dataset
from undiffuse.data.records import Row
from undiffuse.data.render import RenderSpec, may_flip, render

PLAIN = {"plain": 1.0, "pair": 0.0}


@dataclass
class Held:
    """Pictures in memory; None cannot be read."""

    rows: list[Row]
    pictures: list[Image.Image | None]
    maps: dict[int, Image.Image] = field(default_factory=dict)
    map_classes: list[str] = field(default_factory=list)

    def read_map(self, index: int) -> Image.Image | None:
        return self.maps.get(index)

    def read(self, index: int) -> Image.Image:
        picture = self.pictures[index]
        if picture is None:
            raise DataError(f"picture {index} is damaged.")
        return picture


def halves() -> Image.Image:
    """Left half red, right half blue, twice as wide as high."""
    picture = Image.new("RGB", (64, 32), "red")
    picture.paste("blue", (32, 0, 64, 32))
    return picture


def photos(*pictures: Image.Image | None) -> Held:
    return Held([Row(f"p{n}", f"picture {n}") for n in range(len(pictures))], list(pictures))


def colour_at(pixels: torch.Tensor, x: int, y: int) -> tuple[int, ...]:
    return tuple(((pixels[:, y, x] + 1) * 127.5).round().int().tolist())


def nearest_colour(levels: tuple[int, ...]) -> str:
    return min(COLOURS, key=lambda name: sum((a - b) ** 2 for a, b in zip(COLOURS[name], levels, strict=True)))


def test_photographs_are_cropped_to_the_centre_and_keep_their_caption() -> None:
    example = render(photos(halves()), 0, RenderSpec(size=16), numpy_stream("a"))
    assert example.pixels.shape == (3, 16, 16) and example.pixels.dtype == torch.float32
    assert example.caption == "picture 0"
    assert colour_at(example.pixels, 1, 8) == (255, 0, 0) and colour_at(example.pixels, 14, 8) == (0, 0, 255)


def test_whole_pictures_get_white_borders() -> None:
    example = render(photos(halves()), 0, RenderSpec(size=16, crop="none"), numpy_stream("a"))
    assert colour_at(example.pixels, 8, 0) == (255, 255, 255)
    assert colour_at(example.pixels, 1, 8) == (255, 0, 0)


def test_random_crops_reach_both_ends() -> None:
    spec = RenderSpec(size=16, crop="random")
    middles = [colour_at(render(photos(halves()), 0, spec, numpy_stream("crop", i)).pixels, 8, 8)[0] for i in range(20)]
    assert min(middles) < 50 and max(middles) > 200


def test_flips_mirror() -> None:
    example = render(photos(halves()), 0, RenderSpec(size=16, flip=1.0), numpy_stream("a"))
    assert colour_at(example.pixels, 1, 8) == (0, 0, 255)


@pytest.mark.parametrize(
    ("row", "allowed"),
    [
        (Row("a", "a fox"), True),
        (Row("a", "left-facing fist, noto"), False),
        (Row("a", "a cat on the right"), False),
        (Row("a", "envelope", fields={"group": "objects", "subgroup": "mail"}), False),
        (Row("a", "warning", fields={"group": "symbols"}), False),
    ],
)
def test_what_has_a_side_is_not_flipped(row: Row, allowed: bool) -> None:
    assert may_flip(row) is allowed


def test_damaged_pictures_are_passed_over() -> None:
    pictures = photos(None, halves(), None)
    assert render(pictures, 2, RenderSpec(size=16), numpy_stream("a")).caption == "picture 1"
    with pytest.raises(DataError, match=r"none of the 2 pictures can be read.*picture 1 is damaged"):
        render(photos(None, None), 1, RenderSpec(size=16), numpy_stream("a"))


def test_backgrounds_have_the_colour_that_is_said(emoji_like: Path) -> None:
    dataset = open_dataset(emoji_like)
    spec = RenderSpec(size=32, captions=CaptionSpec(unsaid_white=0.0), **PLAIN)
    seen = set()
    for number in range(150):
        example = render(dataset, number % 4, spec, numpy_stream("bg", number))
        name = example.fields["background"]
        top, _, bottom = name.partition(" to ")
        seen.add(name if not bottom else "gradient")
        for expected, y in ((top, 0), (bottom or top, 31)):
            near = nearest_colour(colour_at(example.pixels, 0, y))
            assert near == expected
        assert (f"gradient background from {name}" if bottom else f" {name} background") in example.caption
    assert {"white", "gradient"} < seen and len(seen) > 8


def test_white_may_go_unsaid(emoji_like: Path) -> None:
    dataset = open_dataset(emoji_like)
    spec = RenderSpec(size=32, backgrounds={"white": 1.0}, **PLAIN)
    captions = [render(dataset, 0, spec, numpy_stream("w", n)).caption for n in range(40)]
    assert 8 < sum("background" in caption for caption in captions) < 32
    assert all(colour_at(render(dataset, 0, spec, numpy_stream("w", n)).pixels, 0, 0) == (255, 255, 255) for n in range(3))


def test_plain_pictures_are_whole_and_centred(emoji_like: Path) -> None:
    pixels = render(
        open_dataset(emoji_like), 0, RenderSpec(size=32, backgrounds={"white": 1.0}, **PLAIN), numpy_stream("a")
    ).pixels
    fox = (pixels[2] < 0).nonzero()
    assert fox.min(0).values.tolist() == [8, 8] and fox.max(0).values.tolist() == [23, 23]


def test_moved_pictures_stay_inside(emoji_like: Path) -> None:
    dataset = open_dataset(emoji_like)
    spec = RenderSpec(size=64, plain=0.0, pair=0.0, scale=(0.3, 1.0), shift=0.5, backgrounds={"black": 1.0})
    boxes = set()
    for number in range(30):
        lit = (render(dataset, 0, spec, numpy_stream("m", number)).pixels[0] > 0.5).nonzero()
        low, high = lit.min(0).values, lit.max(0).values
        boxes.add((*low.tolist(), *high.tolist()))
        side = (high - low + 1).float() * 2  # the square fills half of its picture
        assert (low >= side / 4 - 3).all() and (high <= 64 - side / 4 + 3).all()
    assert len(boxes) > 20


def test_pairs_are_of_one_style_and_lie_where_the_caption_says(emoji_like: Path) -> None:
    dataset = open_dataset(emoji_like)
    spec = RenderSpec(size=64, pair=1.0, backgrounds={"white": 1.0})
    layouts = set()
    for number in range(40):
        example = render(dataset, 0, spec, numpy_stream("pair", number))
        layouts.add(example.fields["layout"])
        assert (example.fields["concept"], example.fields["second"]) == ("fox", "rocket")
        assert dataset.rows[example.fields["partner"]].fields["concept"] == "rocket"
        first, second = ((16, 32), (48, 32)) if example.fields["layout"] == "left-right" else ((32, 16), (32, 48))
        assert colour_at(example.pixels, *first) == pytest.approx((230, 100, 30), abs=4)
        assert colour_at(example.pixels, *second) == pytest.approx((90, 90, 200), abs=4)
        assert "a fox" in example.caption and "a rocket" in example.caption
        assert "noto" not in example.caption
    assert layouts == {"left-right", "above-below"}


def test_twins_are_two_of_one_thing_side_by_side(emoji_like: Path) -> None:
    dataset = open_dataset(emoji_like)
    spec = RenderSpec(size=64, pair=1.0, twins=1.0, backgrounds={"white": 1.0})
    for number in range(10):
        example = render(dataset, 0, spec, numpy_stream("twins", number))
        assert (example.fields["layout"], example.fields["second"], example.fields["partner"]) == ("left-right", "fox", 0)
        assert "foxes" in example.caption
        for place in ((16, 32), (48, 32)):
            assert colour_at(example.pixels, *place) == pytest.approx((230, 100, 30), abs=4)


def test_captions_vary(emoji_like: Path) -> None:
    dataset = open_dataset(emoji_like)
    spec = RenderSpec(size=16, backgrounds={"blue": 1.0}, **PLAIN)
    captions = {render(dataset, 0, spec, numpy_stream("c", n)).caption for n in range(300)}
    assert {
        "fox, 3d render, on a blue background",
        "a fox, 3d render, on a blue background",
        "a fox on a blue background, 3d render",
        "3d render of a fox on a blue background",
        "fox, on a blue background",
        "thing, fox like, 3d render, on a blue background",
    } < captions


def test_a_cutout_without_concept_keeps_its_own_words() -> None:
    cutout = Image.new("RGBA", (32, 32))
    pictures = Held([Row("a", "A dog, smiling"), Row("b", "")], [cutout, cutout])
    spec = RenderSpec(size=16, backgrounds={"red": 1.0}, captions=CaptionSpec(orders={"listed": 1.0}))
    assert render(pictures, 0, spec, numpy_stream("a")).caption == "A dog, smiling, on a red background"
    assert render(pictures, 1, spec, numpy_stream("a")).caption == ""


def test_keywords_of_another_kind_are_left_alone() -> None:
    row = Row("a", "a fox", fields={"concept": "fox", "keywords": "animal, red"})
    spec = RenderSpec(size=16, backgrounds={"red": 1.0}, pair=0.0, captions=CaptionSpec(keywords=1.0, article=1.0))
    captions = {render(Held([row], [Image.new("RGBA", (32, 32))]), 0, spec, numpy_stream("k", n)).caption for n in range(20)}
    assert captions == {"a fox, on a red background", "a fox on a red background"}


def test_the_same_numbers_give_the_same_example(emoji_like: Path) -> None:
    dataset = open_dataset(emoji_like)
    for number in range(10):
        one, two = (render(dataset, 1, RenderSpec(size=32, pair=0.5, flip=0.5), numpy_stream("s", number)) for _ in range(2))
        assert one.caption == two.caption and one.fields == two.fields and torch.equal(one.pixels, two.pixels)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"backgrounds": {"mauve": 1}}, "unknown colour 'mauve'"),
        ({"backgrounds": {"red": 0}}, "not all zero"),
        ({"scale": [0.9, 0.5]}, "the smaller one first"),
        ({"size": 4}, "size = 4"),
        ({"blur": 1}, "blur: unknown key"),
    ],
)
def test_wrong_specs_are_refused(raw: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        RenderSpec.parse(raw)


def test_shades_are_slight() -> None:
    for number in range(50):
        canvas = draw_background({"teal": 1.0}, 4, numpy_stream("shade", number)).canvas
        assert np.abs(np.asarray(canvas).astype(int) - COLOURS["teal"]).max() <= 8


CLASS_COLOURS = np.array([(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)], np.uint8)


def coded(width: int, height: int) -> tuple[Image.Image, Image.Image]:
    """A picture of coarse blocks whose colours encode its classes, and its map."""
    blocks = np.random.default_rng(3).integers(0, 4, (height // 8, width // 8))
    indices = blocks.repeat(8, 0).repeat(8, 1).astype(np.uint8)
    return Image.fromarray(CLASS_COLOURS[indices]), Image.fromarray(indices)


@pytest.mark.parametrize("crop", ["center", "random", "none"])
@pytest.mark.parametrize("shape", [(96, 64), (64, 64), (64, 128)])
def test_maps_follow_their_pictures_exactly(crop: str, shape: tuple[int, int]) -> None:
    picture, indices = coded(*shape)
    pictures = Held([Row("a", "a park")], [picture], {0: indices})
    for number in range(4):
        spec = RenderSpec(size=64, crop=crop, flip=0.5)
        example = render(pictures, 0, spec, numpy_stream("map", number))
        levels = ((example.pixels + 1) * 127.5).round().permute(1, 2, 0).numpy()
        found = np.abs(levels[:, :, None] - CLASS_COLOURS.astype(float)).sum(-1)
        shown = example.fields["map"]
        assert shown.shape == (64, 64) and shown.dtype == np.uint8
        bare = shown == 255
        assert bare.any() == (crop == "none" and shape != (64, 64))
        assert (levels[bare] == 255).all()
        plain = (found.min(-1) < 40) & ~bare  # not where resampling mixes two blocks
        assert plain.mean() > 0.25
        assert (found.argmin(-1)[plain] == shown[plain]).all()


@pytest.mark.parametrize("crop", ["center", "random", "none"])
def test_boxes_follow_their_pictures(crop: str) -> None:
    indices = np.zeros((64, 96), np.uint8)
    indices[16:48, 40:60] = 1
    picture = Image.fromarray(CLASS_COLOURS[indices])
    box = [40 / 96, 16 / 64, 60 / 96, 48 / 64, "dog"]
    pictures = Held([Row("a", "a dog", fields={"boxes": [box]})], [picture], {0: Image.fromarray(indices)})
    sides = set()
    for number in range(8):
        fields = render(pictures, 0, RenderSpec(size=64, crop=crop, flip=0.5), numpy_stream("box", number)).fields
        ((left, top, right, bottom, label),) = fields["boxes"]
        rows, columns = np.flatnonzero((fields["map"] == 1).any(1)), np.flatnonzero((fields["map"] == 1).any(0))
        seen = (columns[0] / 64, rows[0] / 64, (columns[-1] + 1) / 64, (rows[-1] + 1) / 64)
        assert (left, top, right, bottom) == pytest.approx(seen, abs=1.01 / 64) and label == "dog"
        sides.add(round(left, 2))
    assert len(sides) > 1


def test_boxes_are_clipped_and_those_cut_away_are_gone() -> None:
    boxes = [[0, 0.5, 0.4, 1.5, "a"], [0, 0, 0.26, 1, "b"], [0, 0, 0.2, 1, "c"]]
    pictures = Held([Row("a", "", fields={"boxes": boxes})], [Image.new("RGB", (64, 32))])
    ((*sides, label),) = render(pictures, 0, RenderSpec(size=16), numpy_stream("a")).fields["boxes"]
    assert sides == pytest.approx([0, 0.5, 0.3, 1]) and label == "a"


def test_what_says_left_is_not_mirrored_with_its_map() -> None:
    picture, indices = coded(64, 64)
    spec = RenderSpec(size=64, flip=1.0)
    for words, mirrored in (("a tree to the left of a fox", False), ("a tree and a fox", True)):
        shown = render(Held([Row("a", words)], [picture], {0: indices}), 0, spec, numpy_stream("a")).fields["map"]
        expected = np.asarray(indices)[:, ::-1] if mirrored else np.asarray(indices)
        assert np.array_equal(shown, expected)


def test_maps_of_another_size_are_fitted_and_of_another_shape_left_out() -> None:
    picture, indices = coded(64, 64)
    pictures = Held([Row("a", "")], [picture], {0: indices.resize((128, 128), Image.Resampling.NEAREST)})
    assert np.array_equal(render(pictures, 0, RenderSpec(size=64), numpy_stream("a")).fields["map"], np.asarray(indices))
    pictures.maps[0] = indices.resize((128, 64))
    assert "map" not in render(pictures, 0, RenderSpec(size=64), numpy_stream("a")).fields


def test_cutouts_bring_neither_map_nor_boxes() -> None:
    cutout = Image.new("RGBA", (32, 32))
    row = Row("a", "", fields={"boxes": [[0, 0, 1, 1, "a"]]})
    fields = render(Held([row], [cutout], {0: Image.new("L", (32, 32))}), 0, RenderSpec(size=16), numpy_stream("a")).fields
    assert "map" not in fields and "boxes" not in fields
