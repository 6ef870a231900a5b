"""What a run takes over from the model that it goes on from."""

from __future__ import annotations

from pathlib import Path

import pytest

from undiffuse.checkpoints import api
from undiffuse.core.errors import CheckpointError, SpecError
from undiffuse.model.spec import ModelSpec
from undiffuse.training.recipe import DiffusionObjective, Recipe
from undiffuse.training.run import train
from undiffuse.training.start import settle


def going_on(kind: str = "diffusion", **objective: object) -> Recipe:
    return Recipe.parse(
        {"name": "mine", "data": {"path": "photos"}, "run": {"steps": 2}, "objective": {"kind": kind, **objective}}
    )


@pytest.fixture
def tiny_default(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny model in the place of the embedded one."""
    monkeypatch.setattr(api, "default_folder", lambda: tiny_folder)


def test_a_run_that_starts_from_nothing_stays_as_it_is() -> None:
    recipe = going_on()

    assert settle(recipe) is recipe


@pytest.mark.usefixtures("tiny_default")
@pytest.mark.parametrize("kind", ["autoencoder", "diffusion"])
def test_the_size_is_the_model_s_unless_the_recipe_names_one(kind: str) -> None:
    recipe = going_on(kind, start="default")
    named = recipe.model_dump()
    named["data"]["render"]["size"] = 32

    assert settle(recipe).data.render.size == 16
    assert settle(Recipe.parse(named)).data.render.size == 32


@pytest.mark.usefixtures("tiny_default")
def test_prediction_and_schedule_are_the_model_s(tiny_spec: ModelSpec) -> None:
    terms = settle(going_on(start="default")).objective

    assert terms.kind == "diffusion"
    assert (terms.prediction, terms.schedule) == (tiny_spec.prediction, tiny_spec.schedule)


@pytest.mark.parametrize(("asked", "found"), [({}, 0.5), ({"importance": 0.0}, 0.0)])
def test_latents_keep_the_importance_that_the_model_knows(
    asked: dict[str, float], found: float, tiny_spec: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = tiny_spec.model_dump(mode="json")
    raw["codec"]["latent"]["importance"] = 0.5
    monkeypatch.setattr("undiffuse.training.start.find_folder", lambda source: Path(source))
    monkeypatch.setattr("undiffuse.training.start.read_spec", lambda folder: raw)
    terms = settle(going_on(start="known", **asked)).objective

    assert isinstance(terms, DiffusionObjective) and terms.importance == found


@pytest.mark.parametrize(
    ("asked", "key"),
    [({"prediction": "v"}, "prediction"), ({"schedule": {"kind": "cosine"}}, "schedule")],
)
def test_what_contradicts_the_model_is_refused(asked: dict[str, object], key: str, tiny_folder: Path) -> None:
    with pytest.raises(SpecError, match=rf"objective\.{key} beside objective\.start.*leave objective\.{key} out"):
        settle(going_on(start=str(tiny_folder), **asked))


def test_a_net_of_its_own_is_refused(tiny_folder: Path) -> None:
    raw = going_on(start=str(tiny_folder)).model_dump()

    with pytest.raises(SpecError, match=r"\[denoiser\] beside objective\.start"):
        settle(Recipe.parse({**raw, "denoiser": {"widths": [32], "depths": [0]}}))


def test_an_autoencoder_alone_is_no_start_for_a_denoiser(autoencoder_recipe: Path, make_photos, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    from undiffuse.training.recipe import load_recipe

    recipe = load_recipe(autoencoder_recipe, [f"data.path={make_photos(3)}", "run.steps=1"])
    train(recipe, tmp_path / "codec")

    with pytest.raises(CheckpointError, match="holds an autoencoder only"):
        settle(going_on(start=str(tmp_path / "codec")))
    assert settle(going_on("autoencoder", start=str(tmp_path / "codec"))).data.render.size == 128


def test_a_start_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no model at"):
        settle(going_on(start=str(tmp_path / "none")))
