"""Requests that say more than words: what reaches the model, what is refused, what stays as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from undiffuse.conditioners.maps import MapSpec
from undiffuse.conditioners.masked import MaskSpec
from undiffuse.conditioners.palette import paint
from undiffuse.conditioners.small import SmallSpec
from undiffuse.core.errors import DataError, DependencyError, SpecError
from undiffuse.core.random import normal
from undiffuse.generation import given
from undiffuse.generation.generator import Generator
from undiffuse.generation.given import given_by
from undiffuse.generation.request import Request
from undiffuse.generation.sample import settle
from undiffuse.model.build import build_model
from undiffuse.model.latent_diffusion import LatentDiffusion
from undiffuse.model.spec import ModelSpec, join_routes

CLASSES = ("sky", "ground")
PHOTO = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8))
MASK = Image.new("L", PHOTO.size)
MASK.paste(255, (10, 8, 20, 22))
LAYOUT = Image.fromarray((np.arange(256).reshape(16, 16) % 2).astype(np.uint8))


@pytest.fixture(scope="module")
def model(tiny_spec: ModelSpec) -> LatentDiffusion:
    """A model of 16 x 16 pixels that learned classes, masks, maps and small pictures."""
    factor, channels = tiny_spec.codec.autoencoder.factor, tiny_spec.codec.autoencoder.latent_channels
    parts = [
        tiny_spec.conditioners[1],
        MaskSpec(channels=channels, factor=factor),
        MapSpec(classes=CLASSES, factor=factor, width=3),
        SmallSpec(scale=2, factor=factor),
    ]
    _, vector, spatial = join_routes(parts)
    net = tiny_spec.denoiser.model_copy(update={"context_width": None, "vector_width": vector, "spatial_channels": spatial})
    spec = tiny_spec.model_dump(mode="json") | {"conditioners": [part.model_dump() for part in parts], "denoiser": net}
    model = build_model(ModelSpec.parse(spec))
    with torch.no_grad():
        for name, weight in model.denoiser.network.named_parameters():
            weight.add_(0.1 * normal(weight.shape, "test", name))
    return model.eval()


@pytest.fixture
def draw(model: LatentDiffusion) -> Generator:
    return Generator(model, device="cpu", precision="fp32", tell=None)


def levels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


@pytest.mark.parametrize(
    "said", [{"label": "fox"}, {"layout": LAYOUT}, {"small": PHOTO.resize((8, 8))}, {"image": PHOTO, "mask": MASK}]
)
def test_everything_that_is_said_steers(said: dict[str, Any], draw: Generator) -> None:
    plain = {name: value for name, value in said.items() if name == "image"}
    one, other = (draw(Request(steps=2, seed=3, **asked)).images[0] for asked in (said, plain))
    assert one.size != other.size or np.abs(levels(one) - levels(other)).max() > 0


def test_one_wrong_request_of_many_is_refused_before_anything_is_drawn(draw: Generator) -> None:
    for wrong in ({"layout": Image.new("L", (16, 16), 7)}, {"label": "foxx"}):
        with pytest.raises((DataError, SpecError), match=r"class 7 in the map|unknown label 'foxx'"):
            draw.stream(Request(label="fox", seed=1), Request(**wrong, seed=1))


@pytest.mark.parametrize("fill", ["learned", "known", "repaint", None])
def test_bytes_outside_a_mask_are_untouched(fill: Any, draw: Generator) -> None:
    result = draw(Request(image=PHOTO, mask=MASK, fill=fill, steps=2, seed=3))
    outside = np.asarray(MASK) == 0

    assert (np.asarray(result.images[0])[outside] == np.asarray(PHOTO)[outside]).all()
    assert np.abs(levels(result.images[0]) - levels(PHOTO))[~outside].max() > 8
    assert result.request.fill == (fill or "learned") and result.request.strength == 1


def test_a_model_that_learned_no_masks_keeps_what_is_known(tiny_model: LatentDiffusion) -> None:
    draw = Generator(tiny_model, device="cpu", precision="fp32", tell=None)
    result = draw(Request("a fox", image=PHOTO, mask=MASK, steps=2, seed=3))
    outside = np.asarray(MASK) == 0

    assert result.request.fill == "known"
    assert (np.asarray(result.images[0])[outside] == np.asarray(PHOTO)[outside]).all()
    with pytest.raises(SpecError, match=r"fill = 'learned'; this model has not learned 'mask'.*'known' or 'repaint'"):
        draw(Request("a fox", image=PHOTO, mask=MASK, fill="learned"))


def test_pictures_of_a_batch_are_what_they_are_alone(draw: Generator) -> None:
    other = Image.new("L", PHOTO.size)
    other.paste(255, (30, 20, 50, 36))
    asked = [Request(image=PHOTO, mask=mask, steps=2, seed=seed) for seed, mask in ((3, MASK), (4, other))]
    together, alone = draw.many(asked), [draw(request) for request in asked]
    assert all(np.abs(levels(a.images[0]) - levels(b.images[0])).max() <= 1 for a, b in zip(together, alone, strict=True))


def test_a_painting_says_what_its_index_map_says(model: LatentDiffusion) -> None:
    painted, indexed = (settle(Request(layout=layout), model) for layout in (paint(LAYOUT, CLASSES), LAYOUT))
    assert torch.equal(given_by(painted, model)["layout"], given_by(indexed, model)["layout"])


def test_a_small_picture_decides_the_size(draw: Generator) -> None:
    assert draw(Request(small=PHOTO.resize((12, 10)), steps=1, seed=3)).images[0].size == (24, 20)


@pytest.mark.parametrize(
    ("said", "error", "message"),
    [
        ({"boxes": ((0, 0, 1, 1, "fox"),)}, SpecError, "cannot read boxes; it reads labels, masks, semantic maps and"),
        ({"like": PHOTO}, SpecError, "cannot read the picture to resemble"),
        ({"context": {"weather": "rain"}}, SpecError, "cannot read the context 'weather'"),
        ({"scales": {"text": 2.0}}, SpecError, "scales names 'text'; this model was taught label, mask, map, small"),
        ({"scales": {"mask": 2.0}}, SpecError, "scales names 'mask'; that is followed as it is, guidance is not about it"),
        ({"layout": Image.new("L", (16, 16), 7)}, DataError, "class 7 in the map"),
    ],
)
def test_what_was_not_learned_is_refused_by_name(said: dict[str, Any], error: type, message: str, draw: Generator) -> None:
    with pytest.raises(error, match=message):
        draw(Request(steps=1, seed=0, **said))


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"mask": MASK}, "a mask without an image"),
        ({"image": PHOTO, "mask": Image.new("L", (3, 3), 255)}, "a mask of 3x3 on a picture of 56x40; both must be equal"),
        ({"image": PHOTO, "mask": Image.new("L", PHOTO.size)}, "a mask that is black all over"),
        ({"boxes": ((0, 0, 2, 1, "fox"),)}, r"boxes\.0\.2 = 2"),
        ({"image": np.zeros((4, 4, 1), dtype=np.uint8)}, "image"),
    ],
)
def test_what_makes_no_sense_is_refused(said: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        Request(**said)


def test_a_context_has_a_scale_of_its_own(draw: Generator) -> None:
    asked = Request(label="fox", layout=LAYOUT, steps=2, seed=3)
    pictures = [draw(asked.replace(scales=scales)).images[0] for scales in ({}, {"map": 1.0}, {"map": 9.0})]
    assert len({picture.tobytes() for picture in pictures}) == 3
    equal = draw(asked.replace(scales={"map": asked.guidance})).images[0]
    assert np.abs(levels(equal) - levels(pictures[0])).max() <= 1


def test_a_request_with_pictures_survives_json() -> None:
    request = Request("a hat", image=PHOTO, mask=MASK, layout=LAYOUT, boxes=((0.0, 0.0, 0.5, 1.0, "hat"),), seed=1)
    again = Request.from_json(request.to_json())
    assert again.boxes == request.boxes
    assert all(again.pictures()[name].tobytes() == picture.tobytes() for name, picture in request.pictures().items())


def test_a_mask_that_is_added_makes_its_place_wholly_anew() -> None:
    plain = Request(image=PHOTO, seed=1)
    assert (plain.strength, plain.replace(mask=MASK).strength) == (0.75, 1.0)
    assert plain.replace(mask=MASK, strength=0.5).replace(seed=2).strength == 0.5


def test_a_context_is_a_picture_or_plain_data() -> None:
    request = Request(context={"depth": np.zeros((4, 4), dtype=np.uint8), "weather": ["rain", 0.5]}, seed=1)
    assert request.context["depth"].mode == "RGB" and request.context["weather"] == ["rain", 0.5]
    back = Request.from_json(request.to_json()).context
    assert back["weather"] == ["rain", 0.5] and back["depth"].tobytes() == request.context["depth"].tobytes()
    with pytest.raises(SpecError, match="a context of type Tensor; a picture, an 8-bit array, or numbers, texts and lists"):
        Request(context={"depth": torch.zeros(3)})


@pytest.mark.parametrize("level", [True, np.uint8(1), np.uint8(255)])
def test_a_mask_may_be_an_array_of_truth_values(level: Any) -> None:
    hidden = (np.asarray(MASK) > 0) * level
    assert Request(image=PHOTO, mask=hidden, seed=1).mask.tobytes() == MASK.tobytes()  # type: ignore[union-attr]


def test_a_scale_for_what_was_not_said_changes_nothing(draw: Generator) -> None:
    asked = Request(label="fox", steps=2, seed=3)
    assert draw(asked.replace(scales={"map": 9.0})).images[0].tobytes() == draw(asked).images[0].tobytes()


def test_a_likeness_needs_its_weights_before_anything_is_drawn(draw: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise DependencyError("the EfficientNet-Lite0 weights are not installed")

    monkeypatch.setattr(given, "find_efficientnet", missing)
    with pytest.raises(DependencyError, match="not installed"):
        given.check_readable(Request(like=PHOTO, seed=1), draw.model)


def test_repainting_is_told_as_what_it_is(draw: Generator, tmp_path: Path) -> None:
    result = draw(Request(image=PHOTO, mask=MASK, fill="repaint", solver="heun", steps=2, seed=3))
    with Image.open(result.save(tmp_path)[0]) as picture:
        text = picture.info["parameters"]
    assert "Sampler: DDPM," in text and "Mask fill: repaint" in text
