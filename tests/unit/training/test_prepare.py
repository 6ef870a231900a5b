"""From recipes of all kinds to nets that are ready to learn, and to models that can be drawn with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from undiffuse.checkpoints import api
from undiffuse.checkpoints.api import load_codec, load_model
from undiffuse.conditioners.labels import LabelConditioner
from undiffuse.conditioners.text import TextConditioner
from undiffuse.core.errors import DataError, SpecError
from undiffuse.data.dataset import open_dataset
from undiffuse.data.latents import LatentCache
from undiffuse.generation.generator import Generator
from undiffuse.generation.request import Request
from undiffuse.model.latent_diffusion import LatentDiffusion
from undiffuse.training.objectives.autoencoder import AutoencoderTraining
from undiffuse.training.objectives.diffusion import DiffusionTraining
from undiffuse.training.prepare import prepare
from undiffuse.training.recipe import load_recipe
from undiffuse.training.run import train
from undiffuse.training.start import settle

Photos = Callable[..., Path]
CPU = torch.device("cpu")
FROM_START = ["denoiser=", "conditioners="]


@pytest.fixture
def tiny_default(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny model in the place of the embedded one."""
    monkeypatch.setattr(api, "default_folder", lambda: tiny_folder)


def draw(model: LatentDiffusion, request: Request) -> Image.Image:
    return Generator(model, device="cpu", precision="fp32", tell=None)(request).images[0]


def diffusion(recipe: Path, folder: Path, *overrides: str) -> DiffusionTraining:
    objective = prepare(settle(load_recipe(recipe, overrides)), folder, CPU)
    assert isinstance(objective, DiffusionTraining)
    return objective


def autoencoder(recipe: Path, folder: Path, *overrides: str) -> AutoencoderTraining:
    objective = prepare(settle(load_recipe(recipe, overrides)), folder, CPU)
    assert isinstance(objective, AutoencoderTraining)
    return objective


def test_one_batch_holds_every_picture_of_a_smaller_set(autoencoder_recipe: Path, make_photos: Photos, tmp_path: Path) -> None:
    objective = autoencoder(autoencoder_recipe, tmp_path, f"data.path={make_photos(3)}", "run.batch=9", "objective.crop=16")

    pixels = objective.batch(0, range(9)).pixels
    count = len(objective.pictures.rows)
    assert pixels.shape == (9, 3, 16, 16)
    assert len({picture.numpy().tobytes() for picture in pixels}) == count == 2  # one of three is held out


def test_an_autoencoder_sees_further_sets_as_often_as_they_have_variants(
    autoencoder_recipe: Path, make_photos: Photos, tmp_path: Path
) -> None:
    own, other = make_photos(3), make_photos(4, name="others")
    changes = [f"data.path={own}", f'data.also=[{{path = "{other}", variants = 2}}]', "run.batch=8", "objective.crop=16"]
    objective = autoencoder(autoencoder_recipe, tmp_path, *changes)
    first, others = (open_dataset(folder, split="train").rows for folder in (own, other))
    assert objective.pictures.rows == [*first, *others, *others] and len(first) == 2 and len(others) == 3
    assert objective.batch(0, range(8)).pixels.shape == (8, 3, 16, 16)


def test_the_share_of_a_process_is_a_part_of_the_whole_batch(
    autoencoder_recipe: Path, make_photos: Photos, tmp_path: Path
) -> None:
    objective = autoencoder(autoencoder_recipe, tmp_path, f"data.path={make_photos(5)}")

    whole, part = objective.batch(3, range(4)), objective.batch(3, range(2, 4))
    assert torch.equal(whole.pixels[2:], part.pixels) and torch.equal(whole.noise[2:], part.noise)


def test_a_set_without_pictures_to_learn_from_is_told(autoencoder_recipe: Path, make_photos: Photos, tmp_path: Path) -> None:
    make_photos(3, name="photos/val")

    with pytest.raises(DataError, match="holds 3 pictures, all of them for validation"):
        autoencoder(autoencoder_recipe, tmp_path, f"data.path={tmp_path / 'photos'}")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["objective.crop=6"], r"objective\.crop = 6; a multiple of 4 up to data\.render\.size = 16"),
        (["objective.crop=32"], r"objective\.crop = 32"),
        (["autoencoder="], r"without \[autoencoder\].*go on from a model with objective\.start"),
        (
            ["autoencoder.patch=1", "autoencoder.widths=[32]"],
            r"latent_channels = 4 with a shortcut.*1x1 pixels has 3 directions",
        ),
    ],
)
def test_recipes_that_do_not_fit_together_are_told(
    overrides: list[str], message: str, autoencoder_recipe: Path, make_photos: Photos, tmp_path: Path
) -> None:
    with pytest.raises(SpecError, match=message):
        autoencoder(autoencoder_recipe, tmp_path, f"data.path={make_photos(3)}", *overrides)


@pytest.mark.usefixtures("tiny_default")
def test_a_diffusion_recipe_needs_a_denoiser_or_a_start(diffusion_recipe: Path, make_photos: Photos, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"without \[denoiser\].*objective\.start"):
        diffusion(diffusion_recipe, tmp_path, f"data.path={make_photos(3)}", "denoiser=")


@pytest.mark.usefixtures("tiny_default")
@pytest.mark.parametrize("told_by", ["folders", "texts", "nothing"])
def test_a_fine_tune_of_the_default_works_with_any_captions(
    told_by: str, diffusion_recipe: Path, make_photos: Photos, tmp_path: Path
) -> None:
    changes = [f"data.path={make_photos(3, told_by)}", "objective.start=default", "run.batch=8", "run.steps=2", *FROM_START]
    said: list[str] = []
    folder = train(load_recipe(diffusion_recipe, changes), tmp_path / "run", tell=said.append)

    model, before = load_model(folder), load_model()
    captions = {caption for row in LatentCache(tmp_path / "run" / "latents").captions for caption in row}
    allowed = {"folders": {"red", "blue"}, "texts": {"red picture", "blue picture"}, "nothing": {""}}[told_by]
    assert captions <= allowed
    assert any("no picture has a caption" in line for line in said) == (told_by == "nothing")
    assert not any("few to learn from" in line for line in said)
    assert model.spec.name == "tiny" and model.spec.size == 16
    assert _same(model.codec.autoencoder, before.codec.autoencoder)
    assert not _same(model.denoiser.network, before.denoiser.network)
    assert draw(model, Request("red", steps=2, seed=1)).size == (16, 16)


def _same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


@pytest.mark.usefixtures("tiny_default")
def test_a_fine_tune_begins_as_the_model_it_starts_from(diffusion_recipe: Path, make_photos: Photos, tmp_path: Path) -> None:
    objective = diffusion(diffusion_recipe, tmp_path, f"data.path={make_photos(3)}", "objective.start=default", *FROM_START)
    request = Request("a fox", steps=3, seed=4)

    assert draw(objective.model, request).tobytes() == draw(load_model(), request).tobytes()


@pytest.mark.usefixtures("tiny_default")
def test_labels_that_the_start_does_not_know_count_as_none(diffusion_recipe: Path, make_photos: Photos, tmp_path: Path) -> None:
    photos = make_photos(6, "folders")
    (photos / "red").rename(photos / "fox")  # a class of the tiny model
    objective = diffusion(
        diffusion_recipe, tmp_path, f"data.path={photos}", "objective.start=default", "objective.drop=0", *FROM_START
    )

    batches = [objective.batch(step, range(4)) for step in range(3)]
    labels = [objective.shelf.labels[place] for batch in batches for place in batch.places.tolist()]
    said = [told for batch in batches for told in batch.said["label"].tolist()]
    assert said == [label == "fox" for label in labels] and set(labels) == {"fox", "blue"}


@pytest.mark.usefixtures("tiny_default")
def test_pictures_without_a_caption_take_the_recipe_s(diffusion_recipe: Path, make_photos: Photos, tmp_path: Path) -> None:
    photos = make_photos(4)
    (photos / "00.txt").write_text("a lighthouse")
    changes = [f"data.path={photos}", "objective.start=default", "data.caption=my dog", *FROM_START]
    objective = diffusion(diffusion_recipe, tmp_path / "run", *changes)

    assert {caption for row in objective.caches[0].captions for caption in row} <= {"my dog", "a lighthouse"}
    assert "my dog" in objective.caches[0].captions[-1]
    with pytest.raises(DataError, match=r"another identity.*delete this one"):
        diffusion(diffusion_recipe, tmp_path / "run", *changes, "data.caption=my cat")


@pytest.mark.usefixtures("tiny_default")
def test_latents_are_normalised_by_the_statistics_of_the_set(
    diffusion_recipe: Path, make_photos: Photos, tmp_path: Path
) -> None:
    objective = diffusion(diffusion_recipe, tmp_path, f"data.path={make_photos(12)}", "run.batch=16")
    z = torch.cat([objective.batch(step, range(16)).z for step in range(8)])

    assert z.mean((0, 2, 3)).abs().max() < 0.2
    assert (z.std((0, 2, 3)) - 1).abs().max() < 0.2
    assert objective.model.spec.codec.latent.shift == pytest.approx(objective.caches[0].mean.tolist())


@pytest.mark.usefixtures("tiny_default")
def test_pictures_that_are_all_the_same_colour_give_finite_latents(
    diffusion_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for index in range(2):
        (tmp_path / "grey").mkdir(exist_ok=True)
        Image.new("RGB", (16, 16), "grey").save(tmp_path / "grey" / f"{index}.png")
    flat = load_codec()[0]
    torch.nn.init.zeros_(flat.autoencoder.to_moments.weight)  # every channel is constant
    monkeypatch.setattr("undiffuse.training.prepare.load_codec", lambda source: (flat, load_codec()[1]))
    objective = diffusion(diffusion_recipe, tmp_path / "run", f"data.path={tmp_path / 'grey'}")

    assert objective.batch(0, range(4)).z.isfinite().all()
    assert all(torch.tensor(objective.model.spec.codec.latent.scale).isfinite())


def test_a_stage_one_run_serves_as_codec_and_text_sizes_survive(
    autoencoder_recipe: Path, diffusion_recipe: Path, make_photos: Photos, tiny_folder: Path, tmp_path: Path
) -> None:
    data = f"data.path={make_photos(6, 'folders')}"
    train(load_recipe(autoencoder_recipe, [data, "run.steps=1"]), tmp_path / "codec")
    parts = [f"objective.codec={tmp_path / 'codec'}", f"conditioners.text.source={tiny_folder}", "conditioners.label.drop=0"]
    train(load_recipe(diffusion_recipe, [data, *parts, "run.steps=1"]), tmp_path / "run")

    model = load_model(tmp_path / "run")
    text, labels = model.conditioner.parts
    assert isinstance(text, TextConditioner) and text.encoder.width == 16
    assert isinstance(labels, LabelConditioner) and labels.classes == ("blue", "red")
    assert draw(model, Request("red", label="red", steps=2, seed=0)).size == (16, 16)


def test_another_codec_beside_a_start_must_have_its_channels(
    autoencoder_recipe: Path, diffusion_recipe: Path, make_photos: Photos, tiny_folder: Path, tmp_path: Path
) -> None:
    data = f"data.path={make_photos(3)}"
    train(load_recipe(autoencoder_recipe, [data, "run.steps=1", "autoencoder.latent_channels=3"]), tmp_path / "codec")
    codec = f"objective.codec={tmp_path / 'codec'}"

    with pytest.raises(SpecError, match=r"objective\.codec with 3 latent channels; objective\.start has learned 4"):
        diffusion(diffusion_recipe, tmp_path, data, f"objective.start={tiny_folder}", codec, *FROM_START)


@pytest.mark.usefixtures("tiny_default")
def test_no_words_and_no_classes_are_possible(diffusion_recipe: Path, make_photos: Photos, tmp_path: Path) -> None:
    changes = [f"data.path={make_photos(3)}", "conditioners=", "run.steps=2", "run.preview_every=2"]
    folder = train(load_recipe(diffusion_recipe, changes), tmp_path / "run")

    assert load_model(folder).spec.conditioners == ()
    assert draw(load_model(folder), Request(steps=2, seed=0)).size == (16, 16)
    assert (tmp_path / "run/previews/00000002.png").is_file()


@pytest.mark.usefixtures("tiny_default")
def test_classes_alone_are_possible_and_need_a_set_that_has_some(
    diffusion_recipe: Path, make_photos: Photos, tmp_path: Path
) -> None:
    changes = ["conditioners=", "conditioners.label.drop=0", "run.steps=2", "run.preview_every=2"]
    folder = train(load_recipe(diffusion_recipe, [f"data.path={make_photos(4, 'folders')}", *changes]), tmp_path / "run")

    assert draw(load_model(folder), Request(label="blue", steps=2, seed=0)).size == (16, 16)
    with pytest.raises(SpecError, match="names no classes; class sub-folders or a 'label' field are needed"):
        diffusion(diffusion_recipe, tmp_path, f"data.path={make_photos(4, name='bare')}", *changes)


def test_an_autoencoder_goes_on_from_a_model(
    autoencoder_recipe: Path, make_photos: Photos, tiny_folder: Path, tmp_path: Path
) -> None:
    objective = autoencoder(
        autoencoder_recipe, tmp_path, f"data.path={make_photos(3)}", "autoencoder=", f"objective.start={tiny_folder}"
    )

    assert _same(objective.autoencoder, load_codec(tiny_folder)[0].autoencoder)
    assert objective.autoencoder.training and all(p.requires_grad for p in objective.autoencoder.parameters())
