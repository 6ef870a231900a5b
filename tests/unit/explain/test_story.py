"""What the page shows was measured: sizes, seconds, pictures, and what follows from them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.unit.explain.conftest import rebuilt

from undiffuse.conditioners.masked import MaskSpec
from undiffuse.conditioners.text import TextConditioner
from undiffuse.conditioners.thesaurus import Thesaurus
from undiffuse.core.pictures import to_images
from undiffuse.core.random import normal
from undiffuse.explain import prose
from undiffuse.explain.contrasts import otherwise, silenced, with_one_word_less
from undiffuse.explain.looks import Viewer, channel_images, coloured, fit_colours, heat_image, lit
from undiffuse.explain.making import steps
from undiffuse.explain.saying import entrances
from undiffuse.explain.story import Story, evenly, lit_steps, tell
from undiffuse.generation.generator import Generator
from undiffuse.generation.request import Request
from undiffuse.model.latent_diffusion import LatentDiffusion
from undiffuse.networks.sketcher import Sketcher

LAYOUT = Image.fromarray((np.arange(256).reshape(16, 16) % 16 // 8).astype(np.uint8))
PHOTO = Image.linear_gradient("L").rotate(90).resize((16, 16)).convert("RGB")
MASK = Image.new("L", (16, 16))
MASK.paste(255, (4, 4, 12, 12))


@pytest.fixture(scope="module")
def story(draw: Generator) -> Story:
    return tell(draw, Request("fox, red boat", seed=3, steps=3))


@pytest.fixture(scope="module")
def spatial(spatial_model: LatentDiffusion) -> Generator:
    return Generator(spatial_model, device="cpu", precision="fp32", tell=None)


def test_the_contrasts_are_what_drawing_gives(story: Story, draw: Generator) -> None:
    ours = draw(Request("fox, red boat", seed=3, steps=3)).images[0]
    nothing = draw(Request(seed=3, steps=3, guidance=1)).images[0]
    plain = draw(Request("fox, red boat", seed=3, steps=3, guidance=1)).images[0]

    assert story.picture.tobytes() == ours.tobytes()
    assert story.silent is not None and story.silent.picture.tobytes() == nothing.tobytes()
    assert story.plain is not None and story.plain.picture.tobytes() == plain.tobytes()
    expected = np.abs(np.asarray(ours, dtype=float) - np.asarray(plain, dtype=float)).mean(2)
    torch.testing.assert_close(story.plain.apart.double(), torch.from_numpy(expected), rtol=1e-4, atol=1e-4)


def test_the_cost_tells_the_true_sizes(story: Story) -> None:
    cost = story.cost
    assert (cost.pixels, cost.latent) == ((3, 16, 16), (4, 8, 8))
    assert (cost.fewer_numbers, cost.fewer_positions) == (3, 4)
    assert cost.denoise_pixels == 4 * cost.denoise and min(cost.encode, cost.denoise, cost.decode) > 0


def test_noising_ends_in_the_noise_that_the_drawing_began_with(story: Story) -> None:
    (clean, first), *_, (noise, last) = story.noised
    assert (clean.sigma, noise.alpha) == (0, 0)
    assert first.tobytes() == story.steps[-1].x0.tobytes()
    assert last.tobytes() == story.steps[0].xt.tobytes()
    assert sorted(float(level.sigma) for level, _ in story.noised) == [float(level.sigma) for level, _ in story.noised]


def test_words_are_left_out_one_by_one(story: Story, draw: Generator) -> None:
    assert {(word, one.said) for word, one in story.dropped} == {
        ("fox", "red boat"),
        ("red", "fox, boat"),
        ("boat", "fox, red"),
    }
    assert [one.by for _, one in story.dropped] == sorted((one.by for _, one in story.dropped), reverse=True)
    assert tell(draw, Request("fox, red boat", seed=3, steps=1), words=False).dropped == []


def test_lighting_is_the_mean_of_its_layers(story: Story) -> None:
    every, *groups = story.lightings
    assert every.layers == len(story.trace.layers) == sum(one.layers for one in groups)
    means = [float(one.shares.mean()) * one.layers for one in groups]
    assert float(every.shares.mean()) == pytest.approx(sum(means) / every.layers, rel=1e-4)
    packed = np.frombuffer(groups[0].packed([1]), dtype=np.uint8).reshape(groups[0].shares.shape[1:])
    torch.testing.assert_close(
        torch.tensor(packed / 255 * groups[0].most).float(), groups[0].shares[1], rtol=0, atol=groups[0].most / 500
    )


def test_a_long_prompt_is_lit_at_fewer_steps(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    assert lit_steps(story) == [0, 1, 2]
    monkeypatch.setattr("undiffuse.explain.story.LIGHT", 2 * sum(one.shares[0].numel() for one in story.lightings))
    assert lit_steps(story) == [0, 2]


def test_another_prompt_may_be_named(draw: Generator) -> None:
    story = tell(draw, Request("fox", seed=3, steps=2), instead="boat")
    assert story.instead is not None and story.instead.contrast.said == "boat"
    assert story.instead.contrast.picture.tobytes() == draw(Request("boat", seed=3, steps=2)).images[0].tobytes()
    assert len(story.instead.distances) == 2 and min(story.instead.distances) > 0


@pytest.mark.parametrize(
    ("said", "kinds", "other"),
    [
        ({"label": "fox"}, {"label"}, "class boat"),
        ({"layout": LAYOUT}, {"map"}, "a map, in a mirror"),
        ({"boxes": ((0, 0, 0.5, 1, "sun"),)}, {"boxes"}, "sun in the box 0.5, 0, 1, 1"),
        ({"small": PHOTO.resize((8, 8))}, {"small"}, "a small picture, in a mirror"),
        ({"image": PHOTO, "mask": MASK}, {"mask"}, None),
        ({}, set(), None),
    ],
)
def test_models_without_words_have_a_story_too(
    said: dict[str, Any], kinds: set[str], other: str | None, spatial: Generator
) -> None:
    story = tell(spatial, Request(seed=3, steps=2, **said))

    assert {one.kind for one in story.entrances if one.said} == kinds
    assert [one.kind for one in story.entrances] == ["label", "boxes", "mask", "map", "small"]
    assert (story.instead.contrast.said if story.instead else None) == other
    assert (story.silent is not None) == bool(kinds & {"label", "map", "boxes"})
    channels = sum(len(one.spatial) for one in story.entrances if one.spatial is not None)
    assert channels == spatial.model.spec.denoiser.spatial_channels
    assert bool(story.lightings) == ("boxes" in said)


def test_a_sketch_of_the_words_is_shown(sketching_model: LatentDiffusion) -> None:
    draw = Generator(sketching_model, device="cpu", precision="fp32", tell=None)
    story = tell(draw, Request("a fox", seed=3, steps=2), words=False)

    (words,) = story.entrances
    expected = sketching_model.conditioner([{"caption": "a fox"}], (8, 8)).spatial
    assert expected is not None and words.spatial is not None and words.sketch is not None
    torch.testing.assert_close(words.spatial, expected[0])
    assert words.sketch.tobytes() == to_images(sketching_model.codec.decode(expected))[0].tobytes()
    chapter = entrances(story, 64)
    assert chapter is not None and "the sketch, decoded" in chapter.inside and "made them into some" in chapter.inside


def test_words_that_were_read_as_others_are_told(tiny_model: LatentDiffusion, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiny_model.conditioner.parts[0], "thesaurus", Thesaurus({"vixen": "fox"}))
    draw = Generator(tiny_model, device="cpu", precision="fp32", tell=None)
    for prompt, told in (("a vixen", "<q>vixen</q> as <q>fox</q>"), ("a fox", None)):
        story = tell(draw, Request(prompt, seed=3, steps=2), words=False)
        chapter = entrances(story, 64)
        assert chapter is not None and (told or "") in chapter.inside and ("thesaurus" in chapter.inside) == (told is not None)


@pytest.mark.parametrize(("sketch", "start"), [(None, prose.FROM_NOISE), (0.5, prose.FROM_SKETCH)])
def test_what_a_drawing_begins_with_is_told(sketching_model: LatentDiffusion, sketch: float | None, start: str) -> None:
    draw = Generator(sketching_model, device="cpu", precision="fp32", tell=None)
    assert start in steps(tell(draw, Request("a fox", seed=3, steps=2, sketch=sketch)), 64).inside


def test_a_hole_that_is_closed_first_is_told(spatial: Generator) -> None:
    asked = Request(label="fox", image=PHOTO, mask=MASK, seed=3, steps=2, sketch=0.5)
    assert prose.FROM_AROUND in steps(tell(spatial, asked), 64).inside


def test_what_words_call_to_mind_is_shown(sketching_model: LatentDiffusion, recalling_model: LatentDiffusion) -> None:
    sketcher = recalling_model.conditioner.get_submodule("parts.0.sketcher")
    assert isinstance(sketcher, Sketcher) and sketcher.memory is not None
    with torch.no_grad():
        sketcher.memory.keys.zero_()  # whatever is asked
        sketcher.memory.lean.copy_(torch.tensor([0.0, 200.0, 199.0, 100.0]))
        sketcher.memory.mean.copy_(normal((5, 8, 8), "mean").flatten())
    draw = Generator(recalling_model, device="cpu", precision="fp32", tell=None)
    story = tell(draw, Request("a fox", seed=3, steps=2), words=False)

    (words,) = story.entrances
    assert [round(share, 1) for share, _ in words.recalled] == [0.7, 0.3]  # e : 1, and the first of three hardly at all
    chapter = entrances(story, 64)
    assert chapter is not None and chapter.inside.count("called to mind: ") == 2
    assert "remembers the pictures that it learned from" in chapter.inside

    (without,) = tell(
        Generator(sketching_model, device="cpu", precision="fp32", tell=None), story.request, words=False
    ).entrances
    assert without.recalled == []


def test_what_was_recognised_beside_a_hole_is_told(recalling_model: LatentDiffusion, monkeypatch: pytest.MonkeyPatch) -> None:
    read = recalling_model.conditioner.parts[0]
    assert isinstance(read, TextConditioner)
    model = rebuilt(recalling_model.spec, [*recalling_model.spec.conditioners, MaskSpec()], read.tokenizer)
    whole = normal((4, 8, 8), "completed")
    draw = Generator(model, device="cpu", precision="fp32", tell=None)
    asked = Request("a fox", image=PHOTO, mask=MASK, seed=3, steps=2)
    for latent, told in ((None, prose.AGREEING), (whole, prose.RECOGNISED)):
        monkeypatch.setattr("undiffuse.generation.given._completed", lambda *_, latent=latent: latent)
        story = tell(draw, asked, words=False)
        words = story.entrances[0]
        assert (words.agreeing, words.recognised) == (latent is None, latent is not None)
        assert words.spatial is not None and torch.equal(words.spatial, whole) == words.recognised
        chapter = entrances(story, 64)
        assert chapter is not None and told in chapter.inside and not (words.recognised and words.recalled)


def test_saying_nothing_keeps_what_is_known(spatial: Generator) -> None:
    silent = silenced(Request(label="fox", image=PHOTO, mask=MASK, seed=3), spatial.model)
    assert silent is not None and silent.label is None and silent.mask is not None and silent.guidance == 1
    assert silenced(Request(image=PHOTO, mask=MASK, seed=3), spatial.model) is None


def test_the_other_subject_is_another_one(draw: Generator) -> None:
    for prompt, expected in (("a fox, 3d render", "a sailboat, 3d render"), ("a sailboat", "a red apple")):
        other = otherwise(Request(prompt, seed=1), draw.model)
        assert other is not None and (other.prompt, other.seed) == (expected, 1)


def test_words_leave_no_holes() -> None:
    assert with_one_word_less("a fox, 3d render", 9) == [
        ("a", "fox, 3d render"), ("fox", "a, 3d render"), ("3d", "a fox, render"), ("render", "a fox, 3d"),
    ]  # fmt: skip
    assert with_one_word_less("fox", 9) == [] and len(with_one_word_less("one two three", 2)) == 2


def test_a_map_to_colours_is_found_where_there_is_one() -> None:
    z, weights = normal((4, 8, 8), "colours"), torch.rand(5, 3, generator=torch.Generator().manual_seed(0)) * 0.3
    pixels = coloured(z[None], weights)[0].clamp(-1, 1)
    picture = Image.fromarray(((pixels + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0).numpy())
    clipped = (coloured(z[None], weights)[0].abs() > 1).any()
    torch.testing.assert_close(fit_colours(z, picture), weights, rtol=0, atol=0.2 if clipped else 0.01)


def test_a_slow_decoder_is_spared(tiny_model: LatentDiffusion) -> None:
    z, picture = normal((4, 8, 8), "slow"), Image.new("RGB", (16, 16), "red")
    quick, slow = Viewer(tiny_model, z, picture, 1), Viewer(tiny_model, z, picture, 10**9)
    assert (quick.how, slow.how) == ("decoder", "linear")
    assert slow(z[None])[0].size == (8, 8) and np.asarray(slow(z[None])[0])[..., 0].min() > 200


def test_colours_tell_sign_and_size() -> None:
    (image,) = channel_images(torch.tensor([[[-1.0, 0.0, 1.0]]]))
    (_, _, low), zero, (high, _, _) = (image.getpixel((x, 0)) for x in range(3))  # type: ignore[misc]
    assert low > 150 and high > 190 and min(zero) > 230  # type: ignore[arg-type]
    heat = heat_image(torch.tensor([[0.0, 1.0, 2.0]]))
    assert [sum(heat.getpixel((x, 0))) for x in range(3)] == sorted(sum(heat.getpixel((x, 0))) for x in range(3))  # type: ignore[arg-type]


def test_light_falls_where_attention_lies() -> None:
    white = Image.new("RGB", (4, 4), "white")
    levels = np.asarray(lit(white, torch.tensor([[0.0, 0.0], [0.0, 0.5]])).convert("L"))
    assert levels[0, 0] < 40 and levels[3, 3] > 240
    assert np.asarray(lit(white, torch.full((2, 2), 0.3))).min() == 255


def test_indices_are_spread_evenly() -> None:
    assert evenly(3, 6) == [0, 1, 2]
    assert evenly(1000, 5) == [0, 250, 500, 749, 999]
