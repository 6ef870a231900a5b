"""Stage one beyond the KL autoencoder: codes, a user's own LPIPS, and a critic that joins without a fall in quality."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

from undiffuse.checkpoints import lpips
from undiffuse.checkpoints.api import load_codec
from undiffuse.core.errors import CheckpointError, SpecError
from undiffuse.core.random import normal
from undiffuse.evaluation.reconstruction import psnr
from undiffuse.model.spec import VQSpec
from undiffuse.networks.quantizer import VectorQuantizer, VQAutoencoder
from undiffuse.networks.vgg import Vgg
from undiffuse.training.distributed import Workers
from undiffuse.training.loop import Trainer
from undiffuse.training.objectives.autoencoder import AutoencoderTraining, Crops
from undiffuse.training.prepare import prepare
from undiffuse.training.recipe import Recipe, load_recipe
from undiffuse.training.run import train

Photos = Callable[..., Path]
CPU = torch.device("cpu")
VQ = ["autoencoder.kind=vq", "autoencoder.codes=16"]


def stage_one(recipe: Recipe, folder: Path) -> AutoencoderTraining:
    objective = prepare(recipe, folder, CPU)
    assert isinstance(objective, AutoencoderTraining)
    return objective


def test_codes_and_latents_are_drawn_together(
    autoencoder_recipe: Path, make_photos: Photos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A known latent and known codes in the place of the net's; the weights stand where van den Oord et al. have them."""
    weights = ["objective.codebook=2", "objective.commitment=0.5", "objective.l1=0", "objective.l2=0", "objective.gradient=0"]
    objective = stage_one(load_recipe(autoencoder_recipe, [f"data.path={make_photos(4)}", *VQ, *weights]), tmp_path)
    net = objective.autoencoder
    assert isinstance(net, VQAutoencoder)
    latents = normal((2, 4, 2, 2), "latents").requires_grad_()
    monkeypatch.setattr(net, "encode", lambda x: (latents, None))

    x = torch.zeros(2, 3, 8, 8)
    total, values = objective.loss("autoencoder", Crops(x, torch.zeros(2, 4, 2, 2)), step=0)
    codes = net.quantizer(latents.detach())
    apart = latents.detach() - codes.z
    to_codes, to_latents = torch.autograd.grad(total, [net.quantizer.codes, latents])
    expected = torch.zeros(16, 4).index_add(0, codes.indices.flatten(), (-2 * 2 * apart / 32).movedim(1, -1).flatten(0, -2))
    assert {"codebook", "commitment", "perplexity", "psnr"} <= values.keys() and "kl" not in values
    assert float(total.detach()) == pytest.approx(2.5 * float(apart.square().mean()), rel=1e-5)
    torch.testing.assert_close(to_codes, expected)
    torch.testing.assert_close(to_latents, 0.5 * 2 * apart / 32)


def test_a_vq_run_ends_in_a_codec_that_uses_its_codes(autoencoder_recipe: Path, make_photos: Photos, tmp_path: Path) -> None:
    seen: list[dict[str, float]] = []
    recipe = load_recipe(autoencoder_recipe, [f"data.path={make_photos(6)}", *VQ, "run.preview_every=6"])
    folder = train(recipe, tmp_path / "run", lambda step, steps, values: seen.append(values))

    codec, spec = load_codec(folder)
    assert isinstance(spec.autoencoder, VQSpec) and spec.autoencoder.codes == 16
    assert isinstance(codec.autoencoder, VQAutoencoder) and isinstance(codec.autoencoder.quantizer, VectorQuantizer)
    assert all(values["autoencoder/perplexity"] > 2 for values in seen)
    assert codec(torch.zeros(1, 3, 16, 16)).shape == (1, 3, 16, 16)
    assert (tmp_path / "run/previews/00000006.png").is_file()


def test_an_autoencoder_that_is_none_cannot_learn(autoencoder_recipe: Path, make_photos: Photos, tmp_path: Path) -> None:
    changes = [f"data.path={make_photos(3)}", "autoencoder=", "objective.start=pixels"]
    with pytest.raises(
        SpecError, match=r"'identity'; it has nothing to learn; begin with stage two: objective\.codec = 'pixels'"
    ):
        stage_one(load_recipe(autoencoder_recipe, changes), tmp_path)


def measured(recipe: Recipe, folder: Path) -> list[float]:
    """PSNR of the same crops after every 10 steps of a run."""
    objective = stage_one(recipe, folder)
    crops = objective.batch(0, range(16)).pixels
    seen: list[float] = []

    def measure(step: int, steps: int, values: dict[str, float]) -> None:
        with torch.no_grad():
            remade = objective.autoencoder.decode(objective.autoencoder.encode(crops)[0])
        seen.append(float(psnr(crops, remade).mean()))

    Trainer(recipe, objective, folder, Workers(), torch.float32).run(0, measure)
    return seen


JOINING = ["start=20", "ramp=30", "width=8", "layers=1"]
SIXTY = [
    "run.steps=60",
    "run.save_every=60",
    "run.log_every=10",
    "optimizer.rate=3e-4",
    "optimizer.warmup=5",
    "optimizer.hold=0.2",
]


@pytest.mark.parametrize("kind", [[], ["autoencoder.kind=vq", "autoencoder.codes=64"]], ids=["kl", "vq"])
def test_reconstructions_do_not_fall_when_the_critic_joins(
    kind: list[str], autoencoder_recipe: Path, make_photos: Photos, tmp_path: Path
) -> None:
    critic = [f"objective.adversarial.{change}" for change in JOINING]
    recipe = load_recipe(autoencoder_recipe, [f"data.path={make_photos(6)}", *SIXTY, *critic, *kind])
    ratios = measured(recipe, tmp_path)

    before, after = ratios[1], ratios[2:]
    assert min(after) > before - 0.5  # decibels


def test_a_critic_that_joins_at_once_makes_them_fall(
    autoencoder_recipe: Path, make_photos: Photos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the ramp is for: the same run without it."""
    monkeypatch.setattr(AutoencoderTraining, "_ramp", lambda self, step: float(step >= 20))
    critic = [f"objective.adversarial.{change}" for change in JOINING]
    recipe = load_recipe(autoencoder_recipe, [f"data.path={make_photos(6)}", *SIXTY[1:], "run.steps=40", *critic])
    ratios = measured(recipe, tmp_path)

    assert min(ratios[2:]) < ratios[1] - 0.5


@pytest.fixture
def lpips_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A backbone of two stages in the place of VGG16, and two heads."""
    monkeypatch.setattr(lpips, "Vgg", partial(Vgg, ((3,), (4,))))
    backbone = {"features.0.weight": normal((3, 3, 3, 3), "0"), "features.0.bias": torch.zeros(3)}
    backbone |= {"features.3.weight": normal((4, 3, 3, 3), "3"), "features.3.bias": torch.zeros(4)}
    heads = {f"lin{i}.model.1.weight": torch.ones(1, width, 1, 1) for i, width in enumerate((3, 4))}
    for name, state in (("vgg16.pth", backbone), ("vgg.pth", heads)):
        torch.save(state, tmp_path / name)
    return [str(tmp_path / "vgg16.pth"), str(tmp_path / "vgg.pth")]


def test_lpips_is_read_from_the_user_s_own_files(
    autoencoder_recipe: Path, make_photos: Photos, tmp_path: Path, lpips_files: list[str]
) -> None:
    backbone, _ = lpips_files
    size = ["objective.crop=16", f"data.path={make_photos(3)}", "objective.perceptual.backbone=lpips"]
    both = f"objective.perceptual.weights={lpips_files}"
    objective = stage_one(load_recipe(autoencoder_recipe, [*size, both]), tmp_path)
    batch = objective.batch(0, range(2))
    assert "perceptual" in objective.loss("autoencoder", batch, 0)[1]
    with pytest.raises(CheckpointError, match=r"lacks lin0"):
        stage_one(load_recipe(autoencoder_recipe, [*size, f"objective.perceptual.weights={backbone}"]), tmp_path)
    with pytest.raises(CheckpointError, match=r"nowhere\.pth cannot be read"):
        stage_one(load_recipe(autoencoder_recipe, [*size, "objective.perceptual.weights=nowhere.pth"]), tmp_path)


@pytest.mark.parametrize(
    "changes", [["objective.perceptual.backbone=lpips"], ["objective.perceptual.weights=vgg.pth"]], ids=["none", "unread"]
)
def test_files_belong_to_lpips_and_to_nothing_else(changes: list[str], autoencoder_recipe: Path) -> None:
    with pytest.raises(SpecError, match="files of weights belong to 'lpips'"):
        load_recipe(autoencoder_recipe, changes)
