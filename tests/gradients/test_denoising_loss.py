"""Gradients of the denoising loss against finite differences in float64, for every prediction and weighting."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from undiffuse.core.conditioning import Conditioning
from undiffuse.core.random import normal
from undiffuse.diffusion.guidance import classifier_free
from undiffuse.diffusion.level import Level
from undiffuse.diffusion.loss import denoising_loss
from undiffuse.diffusion.prediction import PREDICTIONS, to_x0
from undiffuse.diffusion.schedule import ScheduleSpec, build_schedule
from undiffuse.diffusion.weighting import WeightingSpec

WEIGHTINGS = [WeightingSpec(kind="uniform"), WeightingSpec(kind="snr"), WeightingSpec(kind="min_snr", gamma=2.0)]
SCHEDULES = [ScheduleSpec(kind="scaled_linear"), ScheduleSpec(kind="flow")]
U = torch.tensor([0.1, 0.45, 0.8])


def leaf(*shape: int, name: str) -> Tensor:
    return normal(shape, "gradients", "loss", name).double().requires_grad_()


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda spec: spec.kind)
@pytest.mark.parametrize("weighting", WEIGHTINGS, ids=lambda spec: spec.kind)
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_loss_in_everything_that_can_learn(prediction: str, weighting: WeightingSpec, schedule: ScheduleSpec) -> None:
    """Through the net's weights, its conditioning, the latents and the noise."""
    level = build_schedule(schedule).training_level(U)

    def loss(weight: Tensor, words: Tensor, x0: Tensor, noise: Tensor) -> Tensor:
        def net(xt: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
            assert cond.vector is not None
            return torch.tanh(xt @ weight + cond.vector[:, None] + 1e-3 * t.view(-1, 1, 1))

        return denoising_loss(net, x0, Conditioning(vector=words), level, noise, prediction, weighting)

    inputs = (leaf(4, 4, name="weight"), leaf(3, 4, name="words"), leaf(3, 2, 4, name="x0"), leaf(3, 2, 4, name="noise"))
    assert torch.autograd.gradcheck(loss, inputs)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_clean_estimate_in_the_output_and_the_input_of_the_net(prediction: str) -> None:
    level = build_schedule(ScheduleSpec(kind="scaled_linear")).training_level(U)
    output, xt = leaf(3, 2, 4, name="output"), leaf(3, 2, 4, name="xt")
    assert torch.autograd.gradcheck(lambda output, xt: to_x0(prediction, output, xt, level), (output, xt))


@pytest.mark.parametrize("rescale", [0.0, 0.7])
def test_guided_estimate_in_the_noised_picture_and_the_words(rescale: float) -> None:
    def denoise(x: Tensor, level: Level, cond: Conditioning) -> Tensor:
        assert cond.vector is not None
        return torch.tanh(x + cond.vector[:, None])

    def guided(x: Tensor, words: Tensor, negative: Tensor) -> Tensor:
        guide = classifier_free(denoise, Conditioning(vector=negative), 3.0, rescale=rescale)
        return guide(x, Level(500.0, 0.6, 0.8), Conditioning(vector=words))

    assert torch.autograd.gradcheck(guided, (leaf(2, 3, 4, name="x"), leaf(2, 4, name="words"), leaf(1, 4, name="negative")))
