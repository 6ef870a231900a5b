"""The losses of both stages against closed forms, and what a batch is made of."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from undiffuse.training.objectives.autoencoder import CRITIC, AutoencoderTraining, Crops
from undiffuse.training.objectives.base import few_pictures
from undiffuse.training.objectives.diffusion import DiffusionTraining
from undiffuse.training.prepare import prepare
from undiffuse.training.recipe import load_recipe

Photos = Callable[..., Path]
ADVERSARIAL = ["start=10", "ramp=8", "weight=0.5", "width=8", "layers=1"]


@pytest.fixture
def stage_one(autoencoder_recipe: Path, make_photos: Photos, tmp_path: Path) -> AutoencoderTraining:
    critic = [f"objective.adversarial.{change}" for change in ADVERSARIAL]
    recipe = load_recipe(autoencoder_recipe, [f"data.path={make_photos(5)}", "objective.crop=16", "objective.kl=0.01", *critic])
    objective = prepare(recipe, tmp_path, torch.device("cpu"))
    assert isinstance(objective, AutoencoderTraining)
    return objective


@pytest.fixture
def stage_two(diffusion_recipe: Path, tiny_folder: Path, make_photos: Photos, tmp_path: Path) -> DiffusionTraining:
    parts = [f"objective.codec={tiny_folder}", "objective.drop=0.25"]
    parts += [f"conditioners.text.source={tiny_folder}", "conditioners.label.drop=0"]
    recipe = load_recipe(diffusion_recipe, [f"data.path={make_photos(8, 'folders')}", *parts, "run.batch=400"])
    objective = prepare(recipe, tmp_path, torch.device("cpu"))
    assert isinstance(objective, DiffusionTraining)
    return objective


def test_the_terms_of_stage_one_are_those_of_the_paper(stage_one: AutoencoderTraining, monkeypatch: pytest.MonkeyPatch) -> None:
    """Known reconstruction, mean and log-variance in the place of the net's."""
    x = torch.zeros(2, 3, 16, 16)
    mean, logvar = torch.full((2, 4, 4, 4), 2.0), torch.full((2, 4, 4, 4), math.log(0.5))
    ramp = (0.1 * torch.arange(16.0)).expand(2, 3, 16, 16)  # one neighbour differs by 0.1 across, by nothing down
    monkeypatch.setattr(stage_one, "autoencoder", lambda pixels, noise: (ramp, mean, logvar))

    total, values = stage_one.loss("autoencoder", Crops(x, torch.zeros(2, 4, 4, 4)), step=0)

    squares = 0.01 * sum(k * k for k in range(16)) / 16
    assert float(values["l1"]) == pytest.approx(0.75, rel=1e-5)
    assert float(values["l2"]) == pytest.approx(squares, rel=1e-5)
    assert float(values["gradient"]) == pytest.approx(0.1, rel=1e-5)
    assert float(values["kl"]) == pytest.approx(0.5 * (4 + 0.5 - 1 - math.log(0.5)), rel=1e-5)
    assert float(values["psnr"]) == pytest.approx(10 * math.log10(4 / squares), rel=1e-5)
    assert float(total) == pytest.approx(0.75 + squares + 0.5 * 0.1 + 0.01 * float(values["kl"]), rel=1e-5)


def test_the_critic_joins_alone_and_is_then_ramped_in(stage_one: AutoencoderTraining) -> None:
    batch = stage_one.batch(0, range(4))

    def values(step: int) -> dict[str, Tensor]:
        return stage_one.loss("autoencoder", batch, step)[1]

    assert [("adversarial" in values(step)) for step in (0, 9, 10, 14, 15, 18, 100)] == [False] * 4 + [True] * 3
    for step, share in ((16, 0.5), (18, 1.0), (50, 1.0)):
        total, found = stage_one.loss("autoencoder", batch, step)
        rest = stage_one.loss("autoencoder", batch, 0)[0]
        assert float((total - rest).detach()) == pytest.approx(share * float(found["adversarial"].detach()), abs=1e-6)


def test_the_critic_s_hinge_loss_counts_from_its_start_on(stage_one: AutoencoderTraining) -> None:
    batch = stage_one.batch(0, range(4))
    stage_one.loss("autoencoder", batch, 0)

    before, shown = stage_one.loss(CRITIC, batch, 9)
    after, _ = stage_one.loss(CRITIC, batch, 10)
    before, after, shown_loss = (value.detach() for value in (before, after, shown["loss"]))
    assert float(before) == 0 and float(after) == float(shown_loss) == pytest.approx(1.0, abs=0.1)
    assert stage_one.rate(CRITIC) == 2e-4 and stage_one.rate("autoencoder") is None


def test_the_adaptive_weight_balances_the_gradients_at_the_last_layer(stage_one: AutoencoderTraining) -> None:
    """Esser et al. 2021, eq. 7: the adversarial term pulls at the last layer as hard as the others, times its weight."""
    batch, last = stage_one.batch(0, range(4)), stage_one.autoencoder.decoder.last.weight
    torch.nn.init.normal_(last, std=0.1)
    total, values = stage_one.loss("autoencoder", batch, 100)
    fooling = torch.autograd.grad(values["adversarial"], last, retain_graph=True)[0].norm()
    others = torch.autograd.grad(total - values["adversarial"], last)[0].norm()

    assert float(fooling / others) == pytest.approx(0.5, rel=0.05)
    assert all(p.requires_grad for p in stage_one.players[CRITIC].parameters())


def test_captions_and_labels_are_dropped_together_and_as_often_as_asked(stage_two: DiffusionTraining) -> None:
    batch = stage_two.batch(0, range(400))
    said = batch.said["text"]

    assert torch.equal(said, batch.said["label"])
    assert 0.17 < 1 - float(said.float().mean()) < 0.33
    seen = {stage_two.shelf.labels[place] for place in batch.places[said].tolist()}
    assert seen == {"red", "blue"}


def test_captions_that_are_dropped_are_the_empty_one(stage_two: DiffusionTraining) -> None:
    batch = stage_two.batch(0, range(40))
    cond, null = stage_two._cond(batch), stage_two.model.conditioner.null(1)
    assert cond.vector is not None and null.vector is not None

    unsaid = (cond.vector - null.vector).abs().amax(1) < 1e-2
    assert torch.equal(unsaid, ~batch.said["text"]) and unsaid.any() and not unsaid.all()


def test_every_slot_has_streams_of_its_own(stage_two: DiffusionTraining) -> None:
    whole, part, other = stage_two.batch(2, range(8)), stage_two.batch(2, range(5, 8)), stage_two.batch(3, range(8))

    assert torch.equal(whole.noise[5:], part.noise) and torch.equal(whole.z[5:], part.z)
    assert torch.equal(torch.as_tensor(whole.level.t)[5:], torch.as_tensor(part.level.t))
    assert torch.equal(whole.places[5:], part.places)
    assert all(torch.equal(flags[5:], part.said[kind]) for kind, flags in whole.said.items())
    assert not torch.equal(whole.noise, other.noise) and len(whole.noise.flatten(1).unique(dim=0)) == 8


def test_only_the_denoiser_and_the_class_table_learn(stage_two: DiffusionTraining) -> None:
    loss, _ = stage_two.loss("denoiser", stage_two.batch(0, range(8)), 0)
    loss.backward()

    learned = {id(p) for p in stage_two.players["denoiser"].parameters()}
    for part in stage_two.model.parts().values():
        for p in part.parameters():
            assert p.requires_grad == (id(p) in learned)
    assert stage_two.model.denoiser.network.last.weight.grad is not None  # type: ignore[union-attr]


def test_the_first_loss_is_that_of_a_net_that_answers_nothing(stage_two: DiffusionTraining) -> None:
    """The last layer starts at zero, so the loss is the mean square of the target, noise - x0."""
    batch = stage_two.batch(0, range(400))

    loss, _ = stage_two.loss("denoiser", batch, 0)
    assert float(loss.detach()) == pytest.approx(float((batch.noise - batch.z).square().mean()), rel=1e-4)


def test_few_pictures_are_told() -> None:
    assert few_pictures(200) == [] and "50 pictures are few" in few_pictures(50)[0]
