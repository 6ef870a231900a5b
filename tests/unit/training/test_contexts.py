"""Runs that are steered by more than words: every kind alone, several together, added to a trained model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from undiffuse.checkpoints.api import load_model
from undiffuse.conditioners.labels import known_labels
from undiffuse.conditioners.maps import MapConditioner
from undiffuse.conditioners.text import TextConditioner
from undiffuse.core.errors import DataError, SpecError
from undiffuse.core.random import normal
from undiffuse.generation.generator import Generator
from undiffuse.generation.request import Request
from undiffuse.training import texts
from undiffuse.training.objectives.diffusion import DiffusionTraining
from undiffuse.training.prepare import prepare
from undiffuse.training.recipe import load_recipe
from undiffuse.training.run import train
from undiffuse.training.start import settle

Recipes = Callable[..., list[str]]
CPU = torch.device("cpu")
PICTURE = Image.linear_gradient("L").resize((16, 16)).convert("RGB")
MASK = Image.new("L", (16, 16))
MASK.paste(255, (4, 4, 12, 12))
LAYOUT = Image.fromarray((np.arange(256).reshape(16, 16) % 2).astype(np.uint8))
ASKS: dict[str, dict[str, Any]] = {
    "label": {"label": "sun"},
    "mask": {"image": PICTURE, "mask": MASK},
    "map": {"layout": LAYOUT},
    "small": {"small": PICTURE.resize((4, 4))},
    "lowres": {"small": PICTURE.resize((8, 8)), "noise_level": 5},
    "boxes": {"boxes": ((0.1, 0.1, 0.5, 0.5, "sun"),)},
    "lookalike": {"like": PICTURE},
}
SETTINGS = {"lookalike": "width=8", "boxes": "most=2", "small": "scale=4"}


@pytest.fixture
def annotated(tmp_path: Path) -> Path:
    """Six pictures with a caption, a class in a field, a map and a box each."""
    folder = tmp_path / "annotated"
    folder.mkdir()
    rows = []
    for index in range(6):
        indices = np.zeros((16, 16), dtype=np.uint8)
        indices[index:, :] = 1
        Image.fromarray(indices).save(folder / f"{index}.map.png")
        Image.fromarray(np.stack([indices * 200, indices * (40 * index), 255 - indices], -1)).save(folder / f"{index}.png")
        kind = ("sun", "moon")[index % 2]
        rows.append({"file": f"{index}.png", "caption": f"a {kind}", "kind": kind, "map": f"{index}.map.png",
                     "boxes": [[0.0, 0.1 * index, 1.0, 1.0, kind]], "split": "train"})  # fmt: skip
    (folder / "captions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "map_classes.txt").write_text("sky\nground\n")
    return folder


@pytest.fixture
def settings(annotated: Path, tiny_folder: Path) -> Recipes:
    def make(*kinds: str) -> list[str]:
        base = [f"data.path={annotated}", "data.label=kind", f"objective.codec={tiny_folder}", "run.batch=4"]
        return [*base, "conditioners=", *(f"conditioners.{kind}.{SETTINGS.get(kind, 'drop=0.1')}" for kind in kinds)]

    return make


def differs(model: Any, asked: dict[str, Any]) -> bool:
    """Whether a random model's picture changes with what is asked."""
    draw = Generator(model, device="cpu", precision="fp32", tell=None)
    plain, steered = (draw(Request(steps=2, seed=1, **said)).images[0] for said in ({}, asked))
    return plain.tobytes() != steered.tobytes()


@pytest.mark.parametrize("kind", ASKS)
def test_every_kind_is_learned_alone_and_steers(kind: str, settings: Recipes, diffusion_recipe: Path, tmp_path: Path) -> None:
    train(load_recipe(diffusion_recipe, [*settings(kind), "run.steps=3", "optimizer.rate=0.05"]), tmp_path / "run")
    model = load_model(tmp_path / "run")

    assert [part.kind for part in model.spec.conditioners] == [kind]
    assert differs(model, ASKS[kind])


def test_all_kinds_are_learned_together(settings: Recipes, diffusion_recipe: Path, tiny_folder: Path, tmp_path: Path) -> None:
    kinds = [f"conditioners.text.source={tiny_folder}", "conditioners.text.length=12"]
    changes = [*settings(*ASKS), *kinds, "run.steps=2"]
    train(load_recipe(diffusion_recipe, changes), tmp_path / "run")
    model = load_model(tmp_path / "run")
    asked = {name: value for said in ASKS.values() for name, value in said.items() if name != "small"}

    draw = Generator(model, device="cpu", precision="fp32", tell=None)
    result = draw(Request("a sun", steps=2, seed=1, scales={"map": 2.0, "text": 3.0}, **asked)).images[0]
    assert result.size == (16, 16)
    outside = np.asarray(MASK) == 0
    assert (np.asarray(result)[outside] == np.asarray(PICTURE)[outside]).all()


def test_kinds_are_dropped_each_on_its_own(settings: Recipes, diffusion_recipe: Path, tmp_path: Path) -> None:
    changes = [*settings("label", "map", "mask"), "conditioners.map.drop=0.5", "conditioners.mask.drop=1", "objective.drop=0"]
    objective = prepare(settle(load_recipe(diffusion_recipe, changes)), tmp_path, CPU)
    assert isinstance(objective, DiffusionTraining)
    batches = [objective.batch(step, range(4)).said for step in range(50)]

    share = {kind: float(torch.cat([said[kind] for said in batches]).float().mean()) for kind in ("label", "map", "mask")}
    assert share["label"] > 0.8
    assert 0.35 < share["map"] < 0.65
    assert share["mask"] == 0


def test_silence_of_the_whole_leaves_what_guidance_is_not_about(
    settings: Recipes, diffusion_recipe: Path, tmp_path: Path
) -> None:
    changes = [*settings("label", "mask"), "objective.drop=1", "conditioners.mask.drop=0"]
    objective = prepare(settle(load_recipe(diffusion_recipe, changes)), tmp_path, CPU)
    assert isinstance(objective, DiffusionTraining)

    said = objective.batch(0, range(4)).said
    assert not said["label"].any() and said["mask"].all()


def test_a_batch_gives_what_its_rows_give_one_by_one(settings: Recipes, diffusion_recipe: Path, tmp_path: Path) -> None:
    """What training stacks and what drawing is told are the same conditioning, whatever is left out."""
    objective = prepare(settle(load_recipe(diffusion_recipe, [*settings(*ASKS), "objective.drop=0.3"])), tmp_path, CPU)
    assert isinstance(objective, DiffusionTraining)
    randomise(objective.players["denoiser"])
    batch = objective.batch(3, range(4))
    size = (batch.z.shape[2], batch.z.shape[3])
    for kind, part in objective.kinds.items():
        kept, said = batch.readings[kind], batch.said[kind]
        if kind == "label":
            labels = [objective.shelf.labels[place] for place in batch.places.tolist()]
            rows = [{"label": label} if told else {} for label, told in zip(labels, said.tolist(), strict=True)]
        else:
            rows = [{name: v[row] for name, v in kept.items()} if told else {} for row, told in enumerate(said.tolist())]
        together = objective.shelf.cond(kind, batch.places, said, kept, size)
        for slot, value in part(rows, size).slots().items():
            assert torch.equal(together.slots()[slot], value), (kind, slot)


def randomise(net: torch.nn.Module) -> None:
    """Numbers in every weight, those that start at zero too."""
    with torch.no_grad():
        for name, weight in net.named_parameters():
            weight.copy_(normal(weight.shape, "contexts", name))


def test_a_trained_model_learns_another_kind(
    settings: Recipes, diffusion_recipe: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    changes = ["denoiser=", f"objective.start={tiny_folder}", "objective.codec=", "conditioners.text.drop=0.25"]
    recipe = load_recipe(diffusion_recipe, [*settings("map"), *changes])
    objective = prepare(settle(recipe), tmp_path / "run", CPU)
    assert isinstance(objective, DiffusionTraining)
    draw = Generator(objective.model, device="cpu", precision="fp32", tell=None)
    before = Generator(load_model(tiny_folder), device="cpu", precision="fp32", tell=None)

    assert [part.kind for part in objective.model.spec.conditioners] == ["text", "label", "map"]
    assert objective.model.spec.conditioners[0].drop == 0.25
    asked = Request("a fox", label="fox", steps=2, seed=1)
    told = np.abs(np.asarray(draw(asked).images[0], dtype=int) - np.asarray(before(asked).images[0]))
    assert told.max() <= 1  # the new inputs are zero: the same arithmetic, in another order


def test_a_field_that_no_picture_has_gives_no_classes(settings: Recipes, diffusion_recipe: Path, tmp_path: Path) -> None:
    recipe = load_recipe(diffusion_recipe, [*settings("label"), "data.label=species"])
    with pytest.raises(DataError, match=r"data\.label = 'species'; no picture of .* has that field; there are: .*kind"):
        prepare(settle(recipe), tmp_path, CPU)


def test_a_kind_needs_what_it_is_made_of(
    settings: Recipes, diffusion_recipe: Path, make_photos: Callable[..., Path], tmp_path: Path
) -> None:
    for kind, missing in (("map", "the data set has no maps"), ("boxes", "no picture of the data set has any")):
        recipe = load_recipe(diffusion_recipe, [*settings(kind), f"data.path={make_photos(3)}", "data.label="])
        with pytest.raises(SpecError, match=missing):
            prepare(settle(recipe), tmp_path / kind, CPU)


def test_how_often_a_kind_is_left_out_may_change_and_its_readings_stay(
    settings: Recipes, diffusion_recipe: Path, tmp_path: Path
) -> None:
    for drop in (0.1, 0.3):
        changes = [*settings("mask"), f"conditioners.mask.drop={drop}"]
        prepare(settle(load_recipe(diffusion_recipe, changes)), tmp_path, CPU)
    with pytest.raises(DataError, match="keeps what was shown with another identity"):  # latents in another scale
        prepare(settle(load_recipe(diffusion_recipe, [*changes, "objective.importance=1"])), tmp_path, CPU)


def test_another_importance_needs_a_codec_to_measure_it(
    settings: Recipes, diffusion_recipe: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    changes = ["denoiser=", f"objective.start={tiny_folder}", "objective.codec=", "objective.importance=0.5"]
    with pytest.raises(SpecError, match=r"importance = 0\.5 beside objective\.start .* stay what they are, at 0; .*codec"):
        prepare(settle(load_recipe(diffusion_recipe, [*settings("map"), *changes])), tmp_path, CPU)


def test_labels_out_of_another_field_are_not_taken_for_those_kept(
    settings: Recipes, annotated: Path, diffusion_recipe: Path, tmp_path: Path
) -> None:
    table = annotated / "captions.jsonl"
    rows = [json.loads(line) for line in table.read_text().splitlines()]
    table.write_text("\n".join(json.dumps(row | {"name": row["kind"].upper()}) for row in rows))
    prepare(settle(load_recipe(diffusion_recipe, settings("label"))), tmp_path / "run", CPU)
    with pytest.raises(DataError, match="caches latents with another identity"):
        prepare(settle(load_recipe(diffusion_recipe, [*settings("label"), "data.label=name"])), tmp_path / "run", CPU)


def test_further_data_sets_bring_what_the_first_one_lacks(
    settings: Recipes, diffusion_recipe: Path, make_photos: Callable[..., Path], tiny_folder: Path, tmp_path: Path
) -> None:
    """Pictures without maps and captioned ones with them in one run, each rendering as often as any other."""
    changes = [*settings("map"), f"conditioners.text.source={tiny_folder}", "conditioners.text.length=12"]
    mapped = changes[0].removeprefix("data.path=")
    changes[:2] = [f"data.path={make_photos(3, 'texts')}", f'data.also=[{{path = "{mapped}", variants = 2}}]']
    recipe = settle(load_recipe(diffusion_recipe, [*changes, "objective.variants=3", "objective.drop=0"]))
    objective = prepare(recipe, tmp_path / "run", CPU)
    assert isinstance(objective, DiffusionTraining)

    own = 3 * len(objective.caches[0])
    assert len(objective.shelf) == own + 2 * 6 and objective.describe()["pictures"] == len(objective.caches[0]) + 6
    batches = [objective.batch(step, range(4)) for step in range(len(objective.shelf) // 4)]
    places = torch.cat([batch.places for batch in batches])
    assert len(places.unique()) == len(places)  # none again before all others were seen
    for batch in batches:
        assert not batch.said["map"][batch.places < own].any()
        shown = objective.shelf.readings("map", batch.places)["layout"]
        for place, layout, z in zip(batch.places.tolist(), shown, batch.z, strict=True):
            cache, row = (objective.caches[0], place) if place < own else (objective.caches[1], place - own)
            kept = cache.latents([row // cache.variants], [row % cache.variants])
            assert torch.equal(z, objective.model.codec.normalise(kept)[0])
            assert objective.shelf.said[place] == cache.captions[row // cache.variants][row % cache.variants]
            assert place >= own or not layout.any()  # nothing is shown of the others
            assert place < own or layout.sum() == 16 * (16 - row // 2)


def test_maps_of_two_sets_must_have_the_same_classes(
    settings: Recipes, diffusion_recipe: Path, annotated: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(annotated, other)
    (other / "map_classes.txt").write_text("sea\nland\n")
    recipe = settle(load_recipe(diffusion_recipe, [*settings("map"), f'data.also=[{{path = "{other}"}}]']))
    with pytest.raises(SpecError, match=r"their classes differ, and a model has one list"):
        prepare(recipe, tmp_path / "run", CPU)


def test_words_read_labels_if_they_are_told_to(
    settings: Recipes, diffusion_recipe: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    words = [f"conditioners.text.source={tiny_folder}", "conditioners.text.length=12", "conditioners.text.labelled=true"]
    changes = [*settings(), *words, "run.steps=2"]
    model = load_model(train(settle(load_recipe(diffusion_recipe, changes)), tmp_path / "run"))
    assert known_labels(model.conditioner.parts) == ("moon", "sun")
    draw = Generator(model, device="cpu", precision="fp32", tell=None)

    def drawn(prompt: str, label: str | None = None) -> bytes:
        return draw(Request(prompt, label=label, steps=2, seed=1)).images[0].tobytes()

    assert drawn("", "sun") == drawn("sun") != drawn("", "moon")
    assert drawn("red", "sun") == drawn("sun, red")
    with pytest.raises(SpecError, match="unknown label 'mon'; this model knows 2 labels, the nearest: moon"):
        drawn("", "mon")


def test_words_that_are_to_read_labels_need_some(
    diffusion_recipe: Path, make_photos: Callable[..., Path], tiny_folder: Path
) -> None:
    changes = [f"data.path={make_photos(3, 'texts')}", f"objective.codec={tiny_folder}", "conditioners.text.labelled=true"]
    recipe = settle(load_recipe(diffusion_recipe, [*changes, f"conditioners.text.source={tiny_folder}"]))
    with pytest.raises(SpecError, match="labelled = true, but the data set names no classes"):
        prepare(recipe, diffusion_recipe.parent / "run", CPU)


def test_words_are_read_as_others_that_captions_have(
    settings: Recipes,
    diffusion_recipe: Path,
    make_photos: Callable[..., Path],
    tiny_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reader = load_model(tiny_folder).conditioner.parts[0]
    assert isinstance(reader, TextConditioner)
    monkeypatch.setattr(texts, "find_minilm", lambda: None)
    monkeypatch.setattr(texts, "load_minilm", lambda: (reader.encoder, reader.tokenizer))
    (tmp_path / "index.noun").write_text(
        "".join(f"{word} n 1 0 1 0 {n}\n" for n, word in enumerate(("sun", "star", "crescent")))
    )
    (tmp_path / "data.noun").write_text(
        "0 17 n 01 sun 0 000 | shines by day\n1 17 n 01 star 0 001 @ 0 n 0000 | a sun\n2 17 n 01 crescent 0 000 | a moon\n"
    )
    (tmp_path / "cntlist.rev").write_text("")
    words = [f"conditioners.text.{told}" for told in (f"source={tiny_folder}", "length=12", f"lexicon={tmp_path}")]
    first = train(settle(load_recipe(diffusion_recipe, [*settings(), *words, "run.steps=2"])), tmp_path / "first")
    model = load_model(first)
    meant = model.conditioner.parts[0].read_as("star, crescent, suns, moons, sun")
    assert meant.keys() == {"star", "crescent", "suns", "moons"} and meant["suns"] == "sun"  # nets of noise decide the others
    draw = Generator(model, device="cpu", precision="fp32", tell=None)
    stars, others = (draw(Request(f"red {word}", steps=2, seed=1)).images[0] for word in ("star", meant["star"]))
    assert stars.tobytes() == others.tobytes()

    own = make_photos(3, "texts")
    with (own / "metadata.jsonl").open("a") as file:
        file.write(json.dumps({"file_name": next(own.glob("*.png")).name, "text": "a star"}) + "\n")
    changes = [f"data.path={own}", "data.label=", f"objective.start={first}", "denoiser=", "conditioners=", "run.steps=1"]
    again = load_model(train(settle(load_recipe(diffusion_recipe, changes)), tmp_path / "second"))
    assert again.conditioner.parts[0].read_as("star, suns") == {"suns": "sun"}  # stars are known now


def test_maps_of_other_classes_go_on_from_what_is_known_of_theirs(
    settings: Recipes, diffusion_recipe: Path, annotated: Path, tmp_path: Path
) -> None:
    """A class keeps what it does by its name; one that the model does not know begins with nothing."""
    changes = [*settings("map"), "run.steps=2", "optimizer.rate=0.05"]
    first = train(settle(load_recipe(diffusion_recipe, changes)), tmp_path / "first")
    (annotated / "map_classes.txt").write_text("water\nsky\n")
    going_on = [change for change in changes if "codec" not in change] + [f"objective.start={first}", "denoiser="]
    objective = prepare(settle(load_recipe(diffusion_recipe, going_on)), tmp_path / "second", CPU)
    assert isinstance(objective, DiffusionTraining)

    before, after = load_model(first).conditioner.parts[0], objective.kinds["map"]
    assert isinstance(before, MapConditioner) and isinstance(after, MapConditioner)
    assert (before.classes, after.classes) == (("sky", "ground"), ("water", "sky"))
    assert objective.model.spec.conditioners[0] == load_model(first).spec.conditioners[0].model_copy(
        update={"classes": after.classes}
    )
    assert before.project is not None and after.project is not None
    old, new = before.project.weight, after.project.weight
    assert torch.equal(new[:, 1], old[:, 0]) and torch.equal(new[:, 2], old[:, 2]) and not new[:, 0].any()


def test_maps_of_other_classes_need_a_projection() -> None:
    with pytest.raises(SpecError, match=r"maps of 1 classes for a model of 2 .* it knows sky, ground; use maps of these"):
        MapConditioner(("sky", "ground"), 2, None).knowing(("water",))
