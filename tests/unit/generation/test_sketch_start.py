"""A drawing that begins with the sketch which words make, in place of noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.serving.conftest import furthest

from undiffuse.core.errors import SpecError
from undiffuse.core.pictures import to_images, to_pixels
from undiffuse.generation.beginning import begun_with
from undiffuse.generation.generator import Generator
from undiffuse.generation.given import readings_of, sketching
from undiffuse.generation.metadata import parse_parameters
from undiffuse.generation.output import read_request
from undiffuse.generation.recognition import Cutout
from undiffuse.generation.request import Request
from undiffuse.generation.sample import decode, grid_of, plan
from undiffuse.generation.seams import closed, without_seam
from undiffuse.model.latent_diffusion import LatentDiffusion
from undiffuse.serving.drawing import shares


def test_left_altogether_a_sketch_is_noise(sketched: Generator) -> None:
    request = Request("a fox", seed=3, steps=3)
    ours, theirs = (sketched(one).images[0] for one in (request.replace(sketch=1.0), request))
    assert ours.tobytes() == theirs.tobytes()


def test_hardly_left_it_is_what_is_drawn(sketched: Generator) -> None:
    part = sketching(sketched.model)
    assert part is not None
    drawn = sketched(Request("a fox", seed=3, steps=1, sketch=0.01, guidance=1)).images[0]
    sketch = decode(part([{"caption": "a fox"}], (8, 8)).spatial, sketched.model)[0]
    assert np.abs(np.asarray(drawn, dtype=float) - np.asarray(sketch)).mean() < 2


def test_steps_are_as_many_as_are_asked_for(sketched: Generator) -> None:
    request = Request("a fox", seed=3, steps=4, sketch=0.5)
    levels = [float(level.t) for level in grid_of(request, sketched.model).levels]
    assert levels == pytest.approx([500, 375, 250, 125, 0])
    assert [step.steps for step in sketched.stream(request)] == [4] * 4
    for steps, spacing in ((1, None), (2, None), (4, "karras")):
        grid = grid_of(request.replace(steps=steps, sketch=0.65, spacing=spacing), sketched.model)
        assert len(grid) == steps and float(grid[0].t) == pytest.approx(650, rel=0.05)


def test_words_and_seed_count(sketched: Generator) -> None:
    request = Request("a fox", seed=3, steps=2, sketch=0.6)
    pictures = [sketched(one).images[0] for one in (request, request.replace(seed=4), request.replace(prompt="a boat"))]
    assert len({picture.tobytes() for picture in pictures}) == 3
    boat, fox = (result.images[0] for result in sketched.many([request.replace(prompt="a boat"), request]))
    assert furthest(fox, pictures[0]) <= 1 and furthest(boat, pictures[2]) <= 1  # a batch rounds in another order
    assert furthest(fox, boat) > 1


def test_what_a_tag_says_is_not_sketched(sketched: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    part = sketching(sketched.model)
    assert part is not None
    heard: list[str] = []
    whole = type(part).forward
    monkeypatch.setattr(
        type(part),
        "forward",
        lambda self, rows, size=None: (heard.extend(r["caption"] for r in rows), whole(self, rows, size))[1],
    )
    monkeypatch.setattr("undiffuse.generation.wardrobe.Wardrobe.check", lambda self, tags: None)
    next(plan([Request("a fox <lora:x:1>", seed=3, steps=1, sketch=0.5)], sketched.model).solver)
    assert "a fox" in {text.strip() for text in heard} and not any("lora" in text for text in heard)


def test_a_second_pass_goes_on_from_what_was_drawn(sketched: Generator) -> None:
    request = Request("a fox", seed=3, steps=2, sketch=0.5, hires={"scale": 2, "strength": 0.5})
    assert sketched(request).images[0].size == (32, 32)


def test_it_is_told_and_drawn_again(sketched: Generator, tmp_path: Path) -> None:
    request = Request("a fox", seed=3, steps=2, sketch=0.6)
    path = sketched(request).save(tmp_path)[0]
    assert read_request(path).sketch == 0.6
    with Image.open(path) as picture:
        assert parse_parameters(picture.info["parameters"])["sketch"] == "0.6"


def test_pictures_that_begin_so_share_calls() -> None:
    assert shares(Request("a fox", sketch=0.5))


def test_a_model_without_sketches_refuses(tiny_model: LatentDiffusion) -> None:
    draw = Generator(tiny_model, device="cpu", precision="fp32", tell=None)
    with pytest.raises(
        SpecError, match=r"sketch = 0\.5 for the model .* it makes no sketch of what words say; leave sketch out"
    ):
        draw(Request("a fox", sketch=0.5))


def test_one_beginning_is_enough() -> None:
    with pytest.raises(SpecError, match="a sketch and a picture to start from"):
        Request("a fox", sketch=0.5, image=Image.new("RGB", (16, 16)))
    with pytest.raises(SpecError, match="a sketch and a picture to start from"):
        hole = Image.new("L", (16, 16), "white")
        Request("a fox", sketch=0.5, image=Image.new("RGB", (16, 16)), mask=hole, strength=0.5)
    with pytest.raises(SpecError, match="take seeds = 'native'"):
        Request("a fox", sketch=0.5, seeds="diffusers")
    with pytest.raises(SpecError, match="sketch"):
        Request("a fox", sketch=0)


def begun_by(draw: Generator, request: Request) -> Image.Image:
    """What the drawing of a request begins with."""
    settled = draw.settle(request)
    return begun_with(settled, readings_of(settled, draw.model), draw.model, (16, 16))


def test_a_hole_begins_with_what_is_remembered_of_such_a_picture(recalling: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("undiffuse.networks.memory.HEEDED", 1e5)  # latents of weights by chance differ by little
    model, part = recalling.model, sketching(recalling.model)
    assert part is not None and part.sketcher is not None and part.sketcher.memory is not None
    shown = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
    for picture, colour in zip(shown, ("yellow", "green"), strict=True):
        picture.paste(colour, (0, 8, 16, 16))
    with torch.no_grad():
        z = model.codec.encode(torch.stack([to_pixels(picture) for picture in shown]))
        things = torch.cat([z, torch.ones(2, 1, 8, 8)], dim=1)  # nothing is seen behind them
        apart = things[:1] - things[1:]
        part.sketcher.memory.keep(things, things.mean(0), apart / apart.norm())
        part.sketcher.memory.keys.zero_()  # words speak for both alike
        part.sketcher.memory.lean[:2] = 1e5
    mask = Image.new("L", (16, 16), 0)
    mask.paste(255, (10, 0, 16, 16))
    for picture, latent in zip(shown, z, strict=True):
        request = Request("a fox", seed=3, steps=1, sketch=0.5, image=picture, mask=mask)
        begun = begun_by(recalling, request)
        theirs = without_seam(decode(latent[None], model)[0], picture, mask)
        assert furthest(begun, theirs) <= 2
        whole = begun_by(recalling, request.replace(mask=Image.new("L", (16, 16), 255)))
        words = decode(part([{"caption": "a fox"}], (8, 8)).spatial, model)[0]
        assert whole.tobytes() == words.tobytes()  # nothing is to be seen
        mute = begun_by(recalling, request.replace(prompt=""))
        assert mute.tobytes() == closed(picture, mask).tobytes() != begun.tobytes()


def test_a_hole_begins_with_a_thing_that_is_recognised_beside_it(recalling: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    model, part = recalling.model, sketching(recalling.model)
    assert part is not None
    part.call(("fox",))
    checks = (torch.arange(16) // 4 % 2 * 2.0 - 1).expand(3, 12, 16)
    monkeypatch.setattr("undiffuse.generation.given.SURE", 1.0)  # weights by chance may agree with anything
    monkeypatch.setattr("undiffuse.generation.given.cut_out", lambda *_: [Cutout(checks, torch.ones(12, 16))])
    pixels = torch.zeros(3, 16, 16)
    pixels[:, 4:] = checks
    picture, mask = to_images(pixels[None])[0], Image.new("L", (16, 16), 0)
    mask.paste(255, (12, 0, 16, 16))
    request = recalling.settle(Request("a fox", seed=3, steps=1, sketch=0.5, image=picture, mask=mask))
    row = readings_of(request, model)
    with torch.no_grad():
        whole, smooth = model.codec.encode(torch.stack([to_pixels(one) for one in (picture, closed(picture, mask))]))
        assert float((row["sketch"] - whole).norm()) < float((smooth - whole).norm()) / 4
        drawn = decode(row["sketch"][None], model)[0]
    assert furthest(begun_by(recalling, request), without_seam(drawn, picture, mask)) == 0
    larger = {"image": picture.resize((1200, 1200), 0), "mask": mask.resize((1200, 1200), 0)}  # searched smaller
    again = readings_of(request.replace(**larger), model)["sketch"]
    assert float((again - whole).norm()) < float((smooth - whole).norm()) / 4
    assert "sketch" not in readings_of(request.replace(prompt="a boat"), model)  # no name of it
    assert "sketch" not in readings_of(request.replace(prompt=""), model)
    assert recalling(request).images[0].crop((0, 0, 12, 16)).tobytes() == picture.crop((0, 0, 12, 16)).tobytes()
