"""A request is whole from the start, refuses what cannot be drawn, and survives JSON."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from undiffuse.core.errors import SpecError
from undiffuse.diffusion.spacings import SPACINGS
from undiffuse.generation.metadata import SCHEDULE_TYPES
from undiffuse.generation.request import Request


def test_the_prompt_may_stand_alone() -> None:
    assert Request("a fox").prompt == Request(seed=1).replace(prompt="a fox").prompt == "a fox"


@pytest.mark.parametrize("seed", [None, -1])
def test_an_open_seed_is_drawn_at_once(seed: int | None) -> None:
    request = Request("a fox", seed=seed)

    assert 0 <= request.seed < 2**32
    assert request.seed != Request("a fox", seed=seed).seed
    assert request.replace(steps=3).seed == request.seed


@pytest.mark.parametrize(
    ("spelling", "solver", "spacing"),
    [
        ("DPM++ 2M Karras", "dpmpp_2m", "karras"),
        ("Euler a", "euler_ancestral", None),
        ("k_euler_a", "euler_ancestral", None),
        ("EulerAncestralDiscreteScheduler", "euler_ancestral", None),
        ("DDIM", "ddim", None),
    ],
)
def test_solvers_go_by_every_known_name(spelling: str, solver: str, spacing: str | None) -> None:
    request = Request(solver=spelling)

    assert (request.solver, request.spacing) == (solver, spacing)


def test_a_named_spacing_wins_over_the_one_in_the_solver_s_name() -> None:
    assert Request(solver="DPM++ 2M Karras", spacing="trailing").spacing == "trailing"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"steps": 0}, "steps = 0: Input should be greater than or equal to 1"),
        ({"steps": 1001}, "steps = 1001"),
        ({"stesp": 20}, "stesp: unknown key"),
        ({"seed": -2}, "seed = -2"),
        ({"seed": 2**64}, "seed = "),
        ({"seed": "lucky"}, "seed = 'lucky'"),
        ({"count": 0}, "count = 0"),
        ({"width": 0}, "width = 0"),
        ({"strength": 0}, "strength = 0"),
        ({"guidance_interval": (0.7, 0.2)}, "the first must be below the second"),
        ({"solver": "magic"}, "magic"),
        ({"solver": "DDIMInverseScheduler"}, "goes from a picture to its noise"),
        ({"spacing": "random"}, "spacing = 'random'"),
        ({"solver": "euler", "eta": 0.5}, "only ddim takes eta"),
        ({"image": "@@@"}, "the text is no picture"),
        ({"image": 3}, "image = 3"),
    ],
)
def test_wrong_fields_are_refused_by_name(fields: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        Request("a fox", **fields)

    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_several_wrong_fields_are_told_at_once() -> None:
    with pytest.raises(SpecError, match=r"steps = 0.*count = 0"):
        Request(steps=0, count=0)


def test_a_request_cannot_be_changed_but_replaced() -> None:
    request = Request("a fox", seed=1)

    with pytest.raises(ValidationError, match="frozen"):
        request.steps = 5  # type: ignore[misc]
    with pytest.raises(SpecError, match="steps = 0"):
        request.replace(steps=0)
    assert request.replace(steps=5) == Request("a fox", seed=1, steps=5)


def test_each_picture_is_a_request_of_its_own() -> None:
    one, two, three = Request("a fox", seed=7, count=3).each()

    assert (one.seed, two.seed, three.seed) == (7, 8, 9)
    assert three == Request("a fox", seed=9)


def test_the_pictures_of_a_request_share_what_they_start_from() -> None:
    request = Request(image=Image.new("RGB", (4, 4)), mask=Image.new("L", (4, 4), 255), count=3, seed=1)
    assert all(one.image is request.image and one.mask is request.mask for one in request.each())


def test_json_brings_everything_back() -> None:
    request = Request(
        "a fox, \"quoted\"\nin two lines · 狐", negative="blur", label="fox", steps=7, guidance=1.5,
        guidance_interval=(0.1, 0.8), guidance_rescale=0.3, solver="ddim", spacing="leading", eta=0.5, seed=2**63 + 1,
        count=2, width=32, height=16,
    )  # fmt: skip

    assert Request.from_json(request.to_json()) == request


def test_json_carries_the_picture_to_start_from() -> None:
    image = Image.effect_noise((5, 4), 50).convert("RGB")
    request = Request("a fox", image=image, strength=0.4)

    back = Request.from_json(request.to_json())

    assert json.loads(request.to_json())["image"].startswith("data:image/png;base64,")
    assert back.image is not None
    assert back.image.tobytes() == image.tobytes()
    assert back == request


def test_broken_json_is_refused_in_one_line() -> None:
    with pytest.raises(SpecError, match="request"):
        Request.from_json("{")
    with pytest.raises(SpecError, match="steps"):
        Request.from_json('{"steps": 0}')


def test_transparency_of_the_start_becomes_white() -> None:
    image = Request(image=Image.new("RGBA", (2, 2), (9, 9, 9, 0))).image

    assert image is not None and image.getpixel((0, 0)) == (255, 255, 255)


def test_it_prints_what_was_asked_for_and_no_more() -> None:
    assert repr(Request("a fox", seed=7, steps=5)) == "Request(prompt='a fox', steps=5, seed=7)"
    assert repr(Request(seed=7, image=Image.new("RGB", (3, 2)))) == "Request(seed=7, image='<3x2>')"


def checker(mode: str) -> Image.Image:
    """A mask that hides the right half, as this kind of file holds it."""
    half = np.zeros((4, 4), dtype=np.uint8)
    half[:, 2:] = 1
    if mode == "P":
        picture = Image.fromarray(half).convert("P")
        picture.putdata(half.flatten().tolist())
        picture.putpalette([0, 0, 0, 128, 0, 0])  # black and dark red
        return picture
    if mode == "alpha":
        return Image.merge("LA", (Image.new("L", (4, 4), 255), Image.fromarray(half * 255)))
    return {"ones": Image.fromarray(half), "bits": Image.fromarray(half > 0), "grey": Image.fromarray(half * 255)}[mode]


@pytest.mark.parametrize("mode", ["ones", "bits", "grey", "P", "alpha"])
def test_a_mask_hides_the_same_in_whatever_form_it_comes(mode: str) -> None:
    mask = Request(image=Image.new("RGB", (4, 4)), mask=checker(mode)).mask
    assert mask is not None and mask.mode == "L"
    assert (np.asarray(mask) == [[0, 0, 255, 255]] * 4).all()


def test_grey_in_a_mask_stays_grey() -> None:
    soft = Image.linear_gradient("L").resize((8, 8))
    mask = Request(image=Image.new("RGB", (8, 8)), mask=soft).mask
    assert mask is not None and np.array_equal(np.asarray(mask), np.asarray(soft))


def test_options_of_the_solver_are_checked_and_carried() -> None:
    request = Request(solver="Euler", solver_options={"s_churn": 20, "s_tmax": 10})
    assert Request.from_json(request.to_json()) == request
    with pytest.raises(SpecError, match="solver option 's_churn' with solver 'dpmpp_2m'; it takes no options"):
        Request(solver="dpmpp_2m", solver_options={"s_churn": 20})
    with pytest.raises(SpecError, match="a whole number is needed"):
        Request(solver="lms", solver_options={"order": 1.5})


def test_every_spacing_can_be_asked_for_and_has_a_label() -> None:
    for spacing in SPACINGS:
        assert Request(spacing=spacing).spacing == spacing
    assert set(SCHEDULE_TYPES) == set(SPACINGS)
