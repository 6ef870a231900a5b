"""What a request leaves to the model: how that is usually drawn with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from undiffuse.core.errors import SpecError
from undiffuse.core.pictures import to_images, to_pixels
from undiffuse.generation.generator import Generator
from undiffuse.generation.output import read_request
from undiffuse.generation.request import USUAL, Request
from undiffuse.generation.seams import without_seam
from undiffuse.model.latent_diffusion import LatentDiffusion
from undiffuse.model.spec import ModelSpec, UsualSpec

OWN = {"steps": 20, "guidance": 4.0, "sketch": None}
PICTURE = Image.new("RGB", (16, 16), "red")


@pytest.fixture
def usual(sketched: Generator) -> Generator:
    """The tiny model with sketches, and with a usual way to be drawn with."""
    told = UsualSpec(steps=3, guidance=2, sketch=0.4)
    model = sketched.model
    spec = model.spec.model_copy(update={"usual": told})
    return Generator(LatentDiffusion(model.codec, model.denoiser, model.conditioner, spec), device="cpu", tell=None)


def left(draw: Generator, *words: str, **fields: Any) -> dict[str, Any]:
    settled = draw.settle(Request(*words, seed=1, **fields))
    assert "steps" in settled.model_fields_set
    return {name: getattr(settled, name) for name in USUAL}


def test_a_request_that_names_no_steps_is_drawn_as_is_usual(usual: Generator) -> None:
    theirs = {"steps": 3, "guidance": 2, "sketch": 0.4}
    assert left(usual, "a fox") == theirs
    assert left(usual, "a fox", guidance=7) == {**theirs, "guidance": 7}
    assert left(usual, "a fox", sketch=None) == {**theirs, "sketch": None}
    named = Request("a fox", seed=1, **theirs)
    one, other = usual.many([named, Request("a fox", seed=1)])
    assert one.images[0].tobytes() == other.images[0].tobytes() and one.request == other.request


def test_one_that_names_them_means_what_it_says(usual: Generator, sketched: Generator) -> None:
    assert left(usual, "a fox", steps=20) == OWN
    assert left(usual, "a fox", steps=20, guidance=7) == {**OWN, "guidance": 7}
    assert left(sketched, "a fox") == OWN


@pytest.mark.parametrize("fields", [{"image": PICTURE}, {"negative": "a boat"}, {"seeds": "diffusers"}, {}])
def test_without_words_or_with_more_than_them_no_sketch_is_begun_with(usual: Generator, fields: dict[str, Any]) -> None:
    words = ["a fox"] if "image" in fields or "seeds" in fields else []
    found = left(usual, *words, **fields)
    assert (found["steps"], found["sketch"]) == (3, None)


def test_a_hole_begins_with_what_is_around_it_where_that_is_asked_for(filling: Generator) -> None:
    mask = Image.new("L", (16, 16), 0)
    mask.paste(255, (4, 4, 12, 12))
    assert left(filling, "a fox", image=PICTURE, mask=mask) == {"steps": 3, "guidance": 2, "sketch": None}
    hidden = PICTURE.copy()
    hidden.paste((0, 0, 255), (4, 4, 12, 12))
    ours, theirs, anew = (
        filling(Request("a fox", image=picture, mask=mask, seed=2, steps=2, guidance=1, sketch=sketch)).images[0]
        for picture, sketch in ((PICTURE, 0.01), (hidden, 0.01), (hidden, None))
    )
    assert ours.tobytes() == theirs.tobytes() != anew.tobytes()  # what is hidden is not looked at
    given_back = to_images(filling.model.codec(to_pixels(PICTURE)[None]))[0]
    off = np.asarray(ours, dtype=float) - np.asarray(without_seam(given_back, PICTURE, mask))
    assert np.abs(off).mean() < 3
    with pytest.raises(SpecError, match=r"sketch = 0\.4 with fill = 'repaint'; that begins with noise alone; leave sketch out"):
        filling(Request("a fox", image=PICTURE, mask=mask, fill="repaint", sketch=0.4))


def test_models_that_remember_pictures_usually_begin_a_hole_so(recalling: Generator) -> None:
    mask = Image.new("L", (16, 16), 0)
    mask.paste(255, (4, 4, 12, 12))
    asked = {"prompt": "a fox", "image": PICTURE, "mask": mask}
    assert left(recalling, **asked) == {"steps": 3, "guidance": 2, "sketch": 0.4}
    told = UsualSpec(steps=3, guidance=2, sketch=0.4, hole=0.2)
    model = recalling.model
    spec = model.spec.model_copy(update={"usual": told})
    heeding = Generator(LatentDiffusion(model.codec, model.denoiser, model.conditioner, spec), device="cpu", tell=None)
    assert left(heeding, **asked) == {"steps": 3, "guidance": 2, "sketch": 0.2}
    assert left(heeding, "a fox")["sketch"] == 0.4
    others: list[dict[str, Any]] = [{"strength": 0.5}, {"fill": "repaint"}, {"seeds": "diffusers"}, {"prompt": ""}]
    for fields in others:  # all that begin elsewhere, or have no words to go by
        assert left(recalling, **{**asked, **fields})["sketch"] is None


def test_what_is_left_to_the_model_stays_so_when_a_request_is_changed_or_kept(usual: Generator) -> None:
    asked = Request("a fox", seed=1)
    again = Request.from_json(asked.replace(prompt="a boat").to_json())
    assert again == asked.replace(prompt="a boat") and not again.model_fields_set.intersection(USUAL)
    settled = usual.settle(asked)
    assert Request.from_json(settled.to_json()) == settled == usual.settle(settled)
    assert json.loads(settled.to_json())["steps"] == 3
    noise = Request.from_json(asked.replace(sketch=None).to_json())
    assert usual.settle(noise).sketch is None


def test_a_picture_tells_it_all(usual: Generator, tmp_path: Path) -> None:
    (path,) = usual(Request("a fox", seed=1)).save(tmp_path)
    told = read_request(path)
    assert (told.steps, told.guidance, told.sketch) == (3, 2, 0.4)
    assert usual(told).images[0].tobytes() == Image.open(path).tobytes()


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"hole": 0.3}, r"usual\.hole = 0\.3; no conditioner makes a sketch of what words say; leave it out"),
        ({"sketch": 0.4}, r"usual\.sketch = 0\.4; no conditioner makes a sketch of what words say; leave it out"),
        ({"steps": 0}, r"usual\.steps"),
    ],
)
def test_what_cannot_be_usual_is_refused(tiny_spec: ModelSpec, told: dict[str, Any], message: str) -> None:
    content = tiny_spec.model_dump() | {"usual": {"steps": 4, "guidance": 2, **told}}
    with pytest.raises(SpecError, match=message):
        ModelSpec.parse(content, where="spec.json")
