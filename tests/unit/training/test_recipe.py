"""Recipes are read, checked, changed and written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from undiffuse.core.errors import SpecError, UsageError
from undiffuse.training.recipe import AutoencoderObjective, DiffusionObjective, Recipe, load_recipe, read_recipe, write_recipe


def test_both_kinds_are_read(autoencoder_recipe: Path, diffusion_recipe: Path) -> None:
    first, second = load_recipe(autoencoder_recipe), load_recipe(diffusion_recipe)

    assert isinstance(first.objective, AutoencoderObjective) and first.autoencoder is not None
    assert isinstance(second.objective, DiffusionObjective) and second.denoiser is not None
    assert first.run.steps == 6 and first.run.log_every == 1


def test_overrides_win(autoencoder_recipe: Path) -> None:
    recipe = load_recipe(autoencoder_recipe, ["run.steps=9", "data.path=pictures", "run.steps=12"])

    assert (recipe.run.steps, recipe.data.path) == (12, "pictures")


@pytest.mark.parametrize("name", ["autoencoder_recipe", "diffusion_recipe"])
def test_what_is_written_is_read_back(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    recipe = load_recipe(request.getfixturevalue(name), ["optimizer.rate=0.0003", "data.render.crop=random"])
    write_recipe(recipe, tmp_path / "recipe.json")

    assert read_recipe(tmp_path / "recipe.json") == recipe
    assert read_recipe(tmp_path / "recipe.json", ["run.steps=7"]).run.steps == 7
    assert json.loads((tmp_path / "recipe.json").read_text())["optimizer"]["betas"] == [0.9, 0.99]


def test_what_conditioners_leave_out_stays_out(diffusion_recipe: Path, tmp_path: Path) -> None:
    """A model to go on from fills it in, in a run that is resumed as in one that begins."""
    recipe = load_recipe(diffusion_recipe, ["conditioners.map.drop=0.5"])
    write_recipe(recipe, tmp_path / "recipe.json")
    again = read_recipe(tmp_path / "recipe.json")
    assert [part.model_fields_set for part in again.conditioners] == [{"kind", "length"}, {"kind", "drop"}]


def test_a_missing_recipe_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'.*none\.toml' is not there.*see recipes/"):
        load_recipe(tmp_path / "none.toml")


@pytest.mark.parametrize("content", [b"name = ", b"\xff\xfe"])
def test_damaged_toml_is_told(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_bytes(content)

    with pytest.raises(SpecError, match="is not valid TOML"):
        load_recipe(tmp_path / "bad.toml")


def test_every_wrong_key_is_listed_and_slips_get_a_hint(autoencoder_recipe: Path) -> None:
    autoencoder_recipe.write_text(autoencoder_recipe.read_text().replace("save_every", "safe_every") + "seed = 'one'\n")

    with pytest.raises(SpecError) as caught:
        load_recipe(autoencoder_recipe)
    told = str(caught.value)
    assert "run.safe_every: unknown key" in told and "run.seed = 'one'" in told
    assert told.endswith("did you mean run.save_every?")


def test_keys_of_the_other_objective_are_refused(autoencoder_recipe: Path) -> None:
    with pytest.raises(SpecError, match=r"objective\.autoencoder\.drop: unknown key"):
        load_recipe(autoencoder_recipe, ["objective.drop=0.2"])


@pytest.mark.parametrize(
    "override",
    [
        "run.steps=0", "run.batch=0", "run.save_every=0", "run.preview_every=-1", "optimizer.rate=0", "optimizer.ema=1.5",
        "optimizer.betas=[0.9, 1.0]", "optimizer.clip=0", "optimizer.warmup=-1", "optimizer.hold=2", "data.memory_gib=-1",
        "run.precision=fp8", "optimizer.decay=never", "objective.kind=gan",
    ],
)  # fmt: skip
def test_impossible_values_are_refused(override: str, autoencoder_recipe: Path) -> None:
    with pytest.raises(SpecError):
        load_recipe(autoencoder_recipe, [override])


def test_a_folder_without_a_recipe_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not a run; a folder made by 'undiffuse train' is needed"):
        read_recipe(tmp_path / "recipe.json")
    with pytest.raises(UsageError, match="is not there"):
        read_recipe(tmp_path / "none" / "recipe.json")


def test_a_damaged_stored_recipe_is_told(tmp_path: Path) -> None:
    (tmp_path / "recipe.json").write_text('{"name": ')

    with pytest.raises(SpecError, match="is damaged"):
        read_recipe(tmp_path / "recipe.json")


def test_recipes_of_earlier_runs_still_open(autoencoder_recipe: Path, tmp_path: Path) -> None:
    recipe = load_recipe(autoencoder_recipe)
    stored = recipe.model_dump(mode="json")
    del stored["data"]["caption"], stored["objective"]["start"]
    (tmp_path / "recipe.json").write_text(json.dumps(stored))

    assert read_recipe(tmp_path / "recipe.json") == Recipe.parse(recipe.model_dump())
