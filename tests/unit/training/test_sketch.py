"""Between the stages: the mean latent of a caption is learned, and stage two begins with it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from tests.conftest import with_objective

from undiffuse.checkpoints.api import load_model, save_model
from undiffuse.conditioners.maps import MapSpec
from undiffuse.conditioners.text import TextConditioner
from undiffuse.conditioners.thesaurus import Thesaurus
from undiffuse.core.errors import DataError, SpecError
from undiffuse.generation.generator import Generator
from undiffuse.generation.request import Request
from undiffuse.model.build import build_model
from undiffuse.model.latent_diffusion import LatentDiffusion
from undiffuse.model.spec import ModelSpec, UsualSpec
from undiffuse.training import texts
from undiffuse.training.objectives.diffusion import DiffusionTraining
from undiffuse.training.objectives.sketch import SketchTraining, recollection, shown
from undiffuse.training.prepare import prepare
from undiffuse.training.recipe import Recipe, load_recipe, read_recipe
from undiffuse.training.run import resume, train
from undiffuse.training.start import settle

Photos = Callable[..., Path]
CPU = torch.device("cpu")


@pytest.fixture
def recipe_file(diffusion_recipe: Path, make_photos: Photos, tiny_folder: Path) -> Path:
    """A recipe of six steps that teaches the tiny model sketches of red and blue pictures."""
    tables = f"""
[objective]
kind = "sketch"
start = "{tiny_folder}"
variants = 2
net = {{ width = 16, depth = 1, rank = 8 }}
preview_prompts = ["red picture", "blue picture"]
"""
    return with_objective(diffusion_recipe, make_photos(8, "texts"), tables)


def as_stage_two(recipe_file: Path) -> None:
    """The same recipe, in place, for the U-Net."""
    lines = recipe_file.read_text().replace('kind = "sketch"', 'kind = "diffusion"').splitlines()
    recipe_file.write_text("\n".join(line for line in lines if not line.startswith("net = ")))


def sketch_of(model: LatentDiffusion, *captions: str) -> torch.Tensor:
    text = next(part for part in model.conditioner.parts if isinstance(part, TextConditioner))
    sketch = text([{"caption": caption} for caption in captions]).spatial
    assert sketch is not None
    return sketch


def learned(recipe: Recipe, run: Path) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The sketches of red and blue pictures (2, D), and the latents (N, D) of those of each kind."""
    model = load_model(train(recipe, run))
    objective = prepare(recipe, run, CPU)
    assert isinstance(objective, SketchTraining)
    rows = [row[0].split()[0] for row in objective.cache.captions]
    z = model.codec.normalise(objective.cache.latents(range(len(rows)), [0] * len(rows))).flatten(1)
    kinds = [z[[word == row for row in rows]] for word in ("red", "blue")]
    return sketch_of(model, "red picture", "blue picture").flatten(1), kinds


def test_a_recipe_says_how_its_model_is_usually_drawn_with(recipe_file: Path, tmp_path: Path) -> None:
    model = load_model(train(settle(load_recipe(recipe_file, ["usual.steps=4", "usual.guidance=2"])), tmp_path / "first"))
    assert model.spec.usual == UsualSpec(steps=4, guidance=2)
    as_stage_two(recipe_file)
    changes = [f'objective.start="{tmp_path / "first"}"', "run.steps=2"]
    plain = load_model(train(settle(load_recipe(recipe_file, changes)), tmp_path / "second"))
    assert plain.spec.usual is None  # what suits one need not suit another
    told = [*changes, "usual.steps=5", "usual.guidance=1", "usual.sketch=0.5"]
    assert load_model(train(settle(load_recipe(recipe_file, told)), tmp_path / "third")).spec.usual is not None


def test_the_model_knows_sketches_and_draws_as_before(recipe_file: Path, tiny_model: LatentDiffusion, tmp_path: Path) -> None:
    model = load_model(train(settle(load_recipe(recipe_file, ["run.preview_every=6"])), tmp_path / "run"))

    assert sketch_of(model, "red picture", "").shape == (2, 4, 8, 8)
    assert model.spec.denoiser.spatial_channels == 4
    assert (tmp_path / "run/previews/00000006.png").is_file()
    request = Request("a fox", label="boat", steps=2, seed=3)
    before, after = (Generator(m, device="cpu", precision="fp32", tell=None)(request).images[0] for m in (tiny_model, model))
    assert after.tobytes() == before.tobytes()


def test_a_sketch_nears_the_mean_of_what_a_caption_is_said_of(recipe_file: Path, tmp_path: Path) -> None:
    changes = ["run.steps=150", "run.save_every=150", "optimizer.rate=3e-3", "optimizer.ema=0.9", "objective.drop=0"]
    recipe = settle(load_recipe(recipe_file, changes))
    sketches, kinds = learned(recipe, tmp_path / "run")
    means = torch.stack([kind.mean(0) for kind in kinds])
    errors = torch.cdist(sketches, means)
    assert errors.diagonal().max() < 0.3 * (means[0] - means[1]).norm()
    assert errors.diagonal().max() < 0.5 * errors.fliplr().diagonal().min()


def test_only_the_sketcher_learns(recipe_file: Path, tmp_path: Path) -> None:
    objective = prepare(settle(load_recipe(recipe_file, ["objective.noise=0.1"])), tmp_path, CPU)
    assert isinstance(objective, SketchTraining)
    loss, values = objective.loss("sketcher", objective.batch(0, range(4)), 0)
    loss.backward()
    assert values.keys() == {"loss", "unexplained"}
    assert all(p.grad is not None for p in objective.players["sketcher"].parameters())
    assert all(p.grad is None for p in objective.text.encoder.parameters())


def test_slots_decide_what_is_in_them(recipe_file: Path, tmp_path: Path) -> None:
    objective = prepare(settle(load_recipe(recipe_file, ["objective.noise=0.1"])), tmp_path, CPU)
    assert isinstance(objective, SketchTraining)
    whole, part = objective.batch(3, range(4)), objective.batch(3, range(2, 4))
    assert torch.equal(part.z, whole.z[2:])
    longest = part.mask.shape[1]
    assert torch.equal(part.mask, whole.mask[2:, :longest])
    assert torch.equal(part.states, whole.states[2:, :longest])


def test_what_is_kept_apart_is_never_shown(recipe_file: Path, tmp_path: Path) -> None:
    objective = prepare(settle(load_recipe(recipe_file, ["objective.apart=0.5", "run.seed=1"])), tmp_path, CPU)
    assert isinstance(objective, SketchTraining)
    kept = set(objective.shown.tolist())
    assert 0 < len(kept) < len(objective.cache) and objective.describe()["pictures"] == len(kept)
    every = [(index, variant) for index in range(len(objective.cache)) for variant in range(2)]
    latents = objective.model.codec.normalise(objective.cache.latents(*map(list, zip(*every, strict=True))))
    seen = torch.cat([objective.batch(step, range(4)).z for step in range(20)])
    nearest = torch.cdist(seen.flatten(1), latents.flatten(1)).argmin(1)
    assert {every[place][0] for place in nearest.tolist()} == kept


@pytest.mark.parametrize("apart", [0.0, 0.3, 0.999])
def test_a_share_of_pictures_is_kept_apart_but_never_all(apart: float) -> None:
    kept = shown(2000, apart, seed=3)
    assert len(kept) == 2000 if apart == 0 else abs(len(kept) / 2000 - (1 - apart)) < 0.03
    assert len(kept.unique()) == len(kept) >= 1
    assert shown(1, apart, seed=3).tolist() == [0]


def test_a_stopped_run_goes_on_to_the_same_weights(recipe_file: Path, tmp_path: Path) -> None:
    level = ["optimizer.decay=none"]  # so that the first steps of a run do not depend on how many follow
    whole = train(settle(load_recipe(recipe_file, level)), tmp_path / "whole")
    train(settle(load_recipe(recipe_file, [*level, "run.steps=2"])), tmp_path / "parts")
    part = resume(tmp_path / "parts", recipe=settle(load_recipe(recipe_file, level)))
    ours, theirs = (load_model(folder).conditioner.state_dict() for folder in (whole, part))
    assert any(".sketcher." in name for name in ours)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_stage_two_goes_on_with_sketches(recipe_file: Path, tmp_path: Path) -> None:
    sketched = train(settle(load_recipe(recipe_file)), tmp_path / "sketched")
    as_stage_two(recipe_file)
    recipe = settle(load_recipe(recipe_file, [f"objective.start={sketched}", "run.steps=2", "optimizer.rate=0.05"]))
    objective = prepare(recipe, tmp_path / "prepared", CPU)
    assert isinstance(objective, DiffusionTraining)
    batch = objective.batch(0, range(4))
    said = [
        objective.shelf.said[place] if told else ""
        for place, told in zip(batch.places.tolist(), batch.said["text"].tolist(), strict=True)
    ]
    cond = objective._cond(batch)
    torch.testing.assert_close(cond.spatial, sketch_of(load_model(sketched), *said), atol=2e-3, rtol=2e-3)

    model = load_model(train(recipe, tmp_path / "run"))
    assert torch.equal(sketch_of(model, "red picture"), sketch_of(load_model(sketched), "red picture"))
    first = model.denoiser.network.state_dict()["first.weight"]
    assert first[:, 4:].abs().max() > 0  # the net has begun to look at them


def test_stage_two_goes_on_at_another_size(recipe_file: Path, tmp_path: Path) -> None:
    sketched = train(settle(load_recipe(recipe_file, ["run.steps=1"])), tmp_path / "sketched")
    as_stage_two(recipe_file)
    given = [f"objective.start={sketched}", "run.steps=2", "data.render.size=24"]
    assert load_model(train(settle(load_recipe(recipe_file, given)), tmp_path / "run")).spec.size == 24


def test_a_sketch_of_more_maps_than_numbers_is_refused(recipe_file: Path, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"objective\.net\.rank = 300; there are 256 numbers to tell.*lower it"):
        prepare(settle(load_recipe(recipe_file, ["objective.net.rank=300"])), tmp_path, CPU)


REMEMBER = ["objective.remember=true", "objective.net.traits=8", "objective.net.key=4"]


def test_a_memory_holds_the_pictures_that_it_is_shown(recipe_file: Path, tmp_path: Path) -> None:
    objective = prepare(settle(load_recipe(recipe_file, [*REMEMBER, "objective.apart=0.5", "run.seed=1"])), tmp_path, CPU)
    assert isinstance(objective, SketchTraining) and objective.text.sketcher is not None and objective.sought is not None
    memory = objective.text.sketcher.memory
    assert memory is not None and len(memory.traits) == len(objective.shown) < len(objective.cache)
    kept = (memory.traits @ memory.basis + memory.mean).unflatten(1, memory.shape)
    torch.testing.assert_close(kept[:, -1], torch.ones_like(kept[:, -1]), atol=1e-3, rtol=0)  # photos cover everything
    own = objective.model.codec.normalise(objective.cache.latents(objective.shown.tolist(), [0] * len(kept)))
    nearest = torch.cdist(kept[:, :-1].flatten(1), own.flatten(1)).argmin(1)
    assert nearest.tolist() == list(range(len(kept)))
    places = objective.sought.places.view(len(objective.cache), -1)
    nothing = len(objective.shown)
    assert {int(place) for place in places.flatten()} == {*range(nothing), nothing}
    for place, index in enumerate(objective.shown.tolist()):
        assert set(places[index].tolist()) == {place}


def test_captions_learn_what_to_call_to_mind(recipe_file: Path, tmp_path: Path) -> None:
    changes = [*REMEMBER, "run.steps=150", "run.save_every=150", "optimizer.rate=3e-3", "optimizer.ema=0.9", "objective.drop=0"]
    recipe = settle(load_recipe(recipe_file, [*changes, "objective.recall=1"]))
    sketches, kinds = learned(recipe, tmp_path / "run")
    # What is likelier counts for more than its probability: a sketch is nearer to one picture of its kind than to their mean.
    nearest = torch.stack([torch.cdist(sketches, kind).min(1).values for kind in kinds], dim=1)  # (2, 2)
    means = torch.cdist(sketches, torch.stack([kind.mean(0) for kind in kinds]))
    assert nearest.diagonal().max() < 0.5 * nearest.fliplr().diagonal().min()
    assert bool((nearest.diagonal() < means.diagonal()).all())
    assert bool((means.diagonal() < means.fliplr().diagonal()).all())


def test_losses_with_a_memory_are_told_apart(recipe_file: Path, tmp_path: Path) -> None:
    objective = prepare(settle(load_recipe(recipe_file, REMEMBER)), tmp_path, CPU)
    assert isinstance(objective, SketchTraining)
    loss, values = objective.loss("sketcher", objective.batch(0, range(4)), 0)
    loss.backward()
    assert values.keys() == {"loss", "unexplained", "recall"}
    assert all(p.grad is not None for p in objective.players["sketcher"].parameters())


@pytest.fixture
def recipe_of_two(recipe_file: Path) -> Recipe:
    """The same about cut-outs, of which most renderings show two."""
    folder = recipe_file.parent / "cutouts"
    folder.mkdir()
    lines = []
    for concept, colour in (("f", "orange"), ("s", "blue"), ("l", "green")):
        for style in ("flat", "noto"):
            art = Image.new("RGBA", (16, 16))
            art.paste(colour, (3, 3, 13, 13))
            art.save(folder / f"{concept}-{style}.png")
            row = {"file_name": f"{concept}-{style}.png", "text": f"{concept}, {style}", "concept": concept, "style": style}
            lines.append(json.dumps(row))
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    rendering = ["data.render.pair=0.7", "data.render.twins=0.3", "data.label=concept", "objective.variants=6", "run.batch=12"]
    return settle(
        load_recipe(recipe_file, [*REMEMBER, *rendering, f"data.path={folder}", "objective.net.two=true", "objective.drop=0"])
    )


def test_two_things_are_sought_where_a_rendering_shows_them(recipe_of_two: Recipe, tmp_path: Path) -> None:
    objective = prepare(recipe_of_two, tmp_path, CPU)
    assert isinstance(objective, SketchTraining) and objective.sought is not None
    cache, sought = objective.cache, objective.sought
    assert sought.two is not None
    rows = [(index, variant) for index in range(len(cache)) for variant in range(cache.variants)]
    names = ("left-right", "above-below")
    for place, (index, variant) in enumerate(rows):
        layout, partner = cache.layouts[index][variant], cache.partners[index][variant]
        if partner is None:
            assert (int(sought.two.ways[place]), int(sought.places[place])) == (-1, index)
        else:
            assert names[int(sought.two.ways[place])] == layout and int(sought.places[place]) == len(cache)
            assert sought.two.places[place].tolist() == [index, partner]
    assert {int(way) for way in sought.two.ways} == {-1, 0, 1}


def test_losses_of_two_things_are_told_apart(recipe_of_two: Recipe, tmp_path: Path) -> None:
    objective = prepare(recipe_of_two, tmp_path, CPU)
    loss, values = objective.loss("sketcher", objective.batch(0, range(12)), 0)
    loss.backward()
    assert values.keys() == {"loss", "unexplained", "recall", "way", "first", "second", "arranged"}
    assert all(p.grad is not None for p in objective.players["sketcher"].parameters())
    assert all(float(value.detach()) > 0 for value in values.values())


def test_a_batch_without_two_things_has_no_loss_of_them(recipe_of_two: Recipe, tmp_path: Path) -> None:
    objective = prepare(recipe_of_two, tmp_path, CPU)
    assert isinstance(objective, SketchTraining)
    batch = objective.batch(0, range(12))
    assert batch.wanted is not None and batch.wanted.two is not None
    none = replace(batch.wanted, two=replace(batch.wanted.two, ways=torch.full_like(batch.wanted.two.ways, -1)))
    loss, values = objective.loss("sketcher", replace(batch, wanted=none), 0)
    loss.backward()
    assert [float(values[name].detach()) for name in ("way", "first", "second", "arranged")] == [0] * 4
    assert all(p.grad is not None and p.grad.isfinite().all() for p in objective.players["sketcher"].parameters())


def test_two_things_are_of_a_memory(recipe_file: Path) -> None:
    with pytest.raises(SpecError, match=r"net\.two = true without remember"):
        load_recipe(recipe_file, ["objective.net.two=true"])


def test_sketches_are_learned_from_one_data_set(recipe_file: Path) -> None:
    with pytest.raises(
        SpecError, match=r"data\.also in a recipe of kind 'sketch'; only U-Nets and autoencoders learn from several"
    ):
        load_recipe(recipe_file, ['data.also=[{path = "more"}]'])


def test_a_lexicon_that_is_not_there_is_told_before_anything_is_encoded(
    recipe_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = [f'objective.words={{ source = "default", lexicon = "{tmp_path}" }}']
    monkeypatch.setattr(texts, "find_minilm", lambda: None)
    with pytest.raises(DataError, match="no WordNet in"):
        prepare(settle(load_recipe(recipe_file, changes)), tmp_path / "run", CPU)
    assert not (tmp_path / "run" / "latents").exists()


def test_latents_of_before_do_not_tell_which_two_are_shown(recipe_of_two: Recipe, tmp_path: Path) -> None:
    prepare(recipe_of_two, tmp_path, CPU)
    captions = tmp_path / "latents" / "captions.jsonl"
    rows = [json.loads(line) for line in captions.read_text().splitlines()]
    captions.write_text("".join(json.dumps({**row, "partners": None}) + "\n" for row in rows))
    with pytest.raises(DataError, match=r"do not tell which two things are shown; .*delete that folder"):
        prepare(recipe_of_two, tmp_path, CPU)


def test_runs_of_before_there_were_twins_go_on(recipe_file: Path, tmp_path: Path) -> None:
    prepare(settle(load_recipe(recipe_file, REMEMBER)), tmp_path, CPU)
    for plan in tmp_path.rglob("plan.json"):
        assert "twins" not in json.loads(plan.read_text())["identity"]["render"]


def test_two_things_without_pictures_of_two_are_refused(recipe_file: Path, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"no rendering shows two things; .*set data\.render\.pair"):
        prepare(settle(load_recipe(recipe_file, [*REMEMBER, "objective.net.two=true"])), tmp_path / "run", CPU)


def test_what_is_compiled_is_what_the_loss_asks(recipe_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    objective = prepare(settle(load_recipe(recipe_file)), tmp_path, CPU)
    asked: list[torch.Size] = []

    def compiled(function: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        def call(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            asked.append(states.shape)
            return function(states, mask)

        return call

    monkeypatch.setattr(torch, "compile", compiled)
    objective.compile()
    objective.loss("sketcher", objective.batch(0, range(4)), 0)
    assert [shape[0] for shape in asked] == [4]


def test_nats_of_what_is_sought() -> None:
    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0]] * 4)
    groups = torch.tensor([7, 8, 7, 9])  # of three pictures, and of the place that is none of them
    sought, strange = torch.tensor([0, 0, 1, 3]), torch.tensor([False, True, True, True])
    plain = logits[0].log_softmax(0)
    without = logits[0, 1:].log_softmax(0)  # the picture itself out of bounds
    expected = -(plain[0] + without[1] + plain[1] + plain[3]) / 4  # the second has a group of its own, the last has none
    torch.testing.assert_close(recollection(logits, sought, strange, groups).mean(), expected)


def test_another_text_encoder_can_take_the_place_of_the_old_one(recipe_file: Path, tiny_folder: Path, tmp_path: Path) -> None:
    words = f'objective.words={{ source = "{tiny_folder}", length = 5 }}'
    model = load_model(train(settle(load_recipe(recipe_file, [words, "run.steps=1"])), tmp_path / "run"))
    text = next(part for part in model.conditioner.parts if isinstance(part, TextConditioner))
    assert text.length == 5 and sketch_of(model, "red picture").shape == (1, 4, 8, 8)


def test_another_text_encoder_reads_the_labels_of_the_one_before(
    recipe_file: Path, tiny_model: LatentDiffusion, tiny_folder: Path, tmp_path: Path
) -> None:
    text, label = tiny_model.spec.conditioners
    spec = tiny_model.spec.model_copy(update={"conditioners": (text.model_copy(update={"classes": ("owl",)}), label)})
    own = tiny_model.conditioner.parts[0]
    assert isinstance(own, TextConditioner)
    save_model(build_model(spec, own.tokenizer), tmp_path / "start")
    words = f'objective.words={{ source = "{tiny_folder}", length = 5 }}'
    recipe = settle(load_recipe(recipe_file, [words, f"objective.start={tmp_path / 'start'}", "run.steps=1"]))
    train(recipe, tmp_path / "run")
    longer = read_recipe(tmp_path / "run" / "recipe.json", ["run.steps=2"])
    model = load_model(resume(tmp_path / "run", recipe=settle(longer)))
    again = model.conditioner.parts[0]
    assert isinstance(again, TextConditioner) and (again.classes, again.length) == (("owl",), 5)


@pytest.mark.parametrize("another", [True, False])
def test_words_are_read_as_others_as_before_but_for_those_of_captions(
    another: bool, recipe_file: Path, tiny_model: LatentDiffusion, tiny_folder: Path, tmp_path: Path
) -> None:
    text, label = tiny_model.spec.conditioners
    spec = tiny_model.spec.model_copy(update={"conditioners": (text.model_copy(update={"thesaurus": True}), label)})
    own = tiny_model.conditioner.parts[0]
    assert isinstance(own, TextConditioner)
    start = build_model(spec, own.tokenizer)
    start.conditioner.parts[0].thesaurus = Thesaurus({"vixen": "fox", "picture": "boat"})
    save_model(start, tmp_path / "start")
    words = [f'objective.words={{ source = "{tiny_folder}", length = 12 }}'] if another else []
    recipe = settle(load_recipe(recipe_file, [*words, f"objective.start={tmp_path / 'start'}", "run.steps=1"]))
    model = load_model(train(recipe, tmp_path / "run"))
    assert model.conditioner.parts[0].read_as("a red picture, a vixen") == {"vixen": "fox"}


def test_a_sketch_can_be_learned_anew(recipe_file: Path, tmp_path: Path) -> None:
    first = train(settle(load_recipe(recipe_file, ["run.steps=1"])), tmp_path / "first")
    changes = [f"objective.start={first}", "objective.net.width=24", "run.steps=1"]
    model = load_model(train(settle(load_recipe(recipe_file, changes)), tmp_path / "second"))
    assert model.spec.denoiser.spatial_channels == 4
    assert sketch_of(model, "red picture").shape == (1, 4, 8, 8)


def test_a_sketch_can_be_learned_anew_beside_maps_that_came_after_it(recipe_file: Path, tmp_path: Path) -> None:
    first = load_model(train(settle(load_recipe(recipe_file, ["run.steps=1"])), tmp_path / "first"))
    text = first.conditioner.parts[0]
    assert isinstance(text, TextConditioner)
    maps = MapSpec(classes=("grass",), factor=2, width=3)
    denoiser = first.spec.denoiser.model_copy(update={"spatial_channels": 7})
    spec = first.spec.model_copy(update={"conditioners": (*first.spec.conditioners, maps), "denoiser": denoiser})
    mapped = build_model(spec, text.tokenizer)
    save_model(mapped, tmp_path / "mapped")

    changes = [f"objective.start={tmp_path / 'mapped'}", "run.steps=1"]
    model = load_model(train(settle(load_recipe(recipe_file, changes)), tmp_path / "second"))
    assert [part.kind for part in model.spec.conditioners] == ["text", "label", "map"] == [p.kind for p in spec.conditioners]
    assert model.spec.denoiser.spatial_channels == 7
    before, after = mapped.denoiser.network.state_dict(), model.denoiser.network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not torch.equal(sketch_of(model, "red picture"), sketch_of(mapped, "red picture"))


def test_a_model_without_words_is_refused(recipe_file: Path, tiny_spec: ModelSpec, tmp_path: Path) -> None:
    denoiser = tiny_spec.denoiser.model_copy(update={"context_width": None, "vector_width": 8})
    mute = tiny_spec.model_copy(update={"conditioners": tiny_spec.conditioners[1:], "denoiser": denoiser})
    save_model(build_model(mute), tmp_path / "mute")
    with pytest.raises(SpecError, match="reads no captions; a sketch is made from words"):
        prepare(settle(load_recipe(recipe_file, [f"objective.start={tmp_path / 'mute'}"])), tmp_path / "run", CPU)


def test_a_model_that_reads_maps_already_is_refused(recipe_file: Path, tiny_model: LatentDiffusion, tmp_path: Path) -> None:
    spec = tiny_model.spec
    maps = MapSpec(classes=("grass",), factor=2, width=3)
    denoiser = spec.denoiser.model_copy(update={"spatial_channels": 3})
    text = tiny_model.conditioner.parts[0]
    assert isinstance(text, TextConditioner)
    mapped = spec.model_copy(update={"conditioners": (*spec.conditioners, maps), "denoiser": denoiser})
    save_model(build_model(mapped, text.tokenizer), tmp_path / "mapped")
    with pytest.raises(SpecError, match="reads 3 channels of maps beside its words; a sketch comes before them"):
        prepare(settle(load_recipe(recipe_file, [f"objective.start={tmp_path / 'mapped'}"])), tmp_path / "run", CPU)


def test_a_recipe_of_stage_two_cannot_ask_for_one(diffusion_recipe: Path, make_photos: Photos, tiny_folder: Path) -> None:
    given = ["conditioners.text.sketch.rank=8", f"objective.codec={tiny_folder}", f"data.path={make_photos(4)}"]
    recipe = settle(load_recipe(diffusion_recipe, [*given, f"conditioners.text.source={tiny_folder}"]))
    with pytest.raises(SpecError, match="with a sketch; a sketch is learned before; train a recipe of kind 'sketch'"):
        prepare(recipe, diffusion_recipe.parent / "run", CPU)
